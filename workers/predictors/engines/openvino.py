"""The forward pass in OpenVINO, which on a CPU is the fastest: converted from the torch model."""

import io
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path

from workers.predictors.engines import Outputs, Tokens
from workers.predictors.protocol import ModelError
from workers.predictors.reading import Graph

# Without this its converter reports each conversion to Google Analytics.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino  # noqa: E402

log = logging.getLogger(__name__)

Calibration = Callable[[], Sequence[tuple[Tokens, ...]]]  # texts, each as the engine's inputs
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
# One for all models, as long as the process lives. It gives the thread that first uses it a stack
# for signals, and frees that when it goes: if another thread lets it go, the first one's next
# signal ends the process.
CORE = openvino.Core()


class OpenVINOEngine:
    """Computes with OpenVINO, on a CPU."""

    # It generates code for each shape. With every length a shape of its own, a worker grew by
    # 160 MB in its first minute and wasn't faster.
    multiple = 4

    def __init__(
        self, graph: Graph, dtype: str, threads: int, texts: Calibration | None = None
    ) -> None:
        """`texts`: quantise the model by them to int8; `dtype` is that of what stays, then. Raises
        ModelError."""
        numbers = dtype if texts is None else f"int8 and {dtype}"
        self.name = f"OpenVINO {openvino.__version__.partition('-')[0]} {numbers} on cpu"
        self.dtype = dtype if texts is None else "int8"
        self._rest = dtype  # of what isn't int8
        self._graph = _plain(graph) if texts is None else _quantised(graph, texts)
        self._threads = 0
        self.use_threads(threads)

    def forward(self, *inputs: Tokens) -> Outputs:
        """`inputs`: (texts, tokens) each. The next call overwrites the outputs."""
        outputs = self._request.infer(dict(enumerate(inputs)), share_inputs=True)
        found: Outputs = outputs[0]
        return found

    def use_threads(self, threads: int) -> None:
        """Compiles the model again if the number changes."""
        if threads == self._threads:
            return
        compiled = CORE.compile_model(
            self._graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": PRECISIONS[self._rest],
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, all threads at it
                # Each worker would pin its threads to the same first cores.
                "ENABLE_CPU_PINNING": False,
                # Of code for shapes; the default of 5000 grows for hours and isn't faster.
                "CPU_RUNTIME_CACHE_CAPACITY": 200,
            },
        )
        self._request = compiled.create_infer_request()
        self._threads = threads

    def another(self, graph: Graph) -> "OpenVINOEngine":
        """A quantised model's too has all its numbers."""
        return OpenVINOEngine(graph, self._rest, self._threads)


def computes_bf16() -> bool:
    """With units of its own."""
    return "BF16" in CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _plain(graph: Graph) -> openvino.Model:
    """With all its numbers."""
    return _model(graph.folder, lambda: _convert(graph))


def _quantised(graph: Graph, texts: Calibration) -> openvino.Model:
    """With weights and activations of matrix products in int8. Raises ModelError."""
    return _model(graph.quantised, lambda: _quantise(_plain(graph), texts()))


def _model(folder: Path, make: Callable[[], openvino.Model]) -> openvino.Model:
    """The model in OpenVINO's own form, from disk where it is there.

    That form is kept, and not what is compiled of it: reading it and compiling took 0.15 s where
    importing the compiled form took 0.54 s (all-MiniLM-L6-v2), and processes share its pages.
    """
    file = folder / "model.xml"
    try:
        return CORE.read_model(file)
    except RuntimeError:
        if file.exists():
            log.warning("%s can't be read; converting the model again", folder)
    model = make()
    try:
        _keep(model, folder)
        return CORE.read_model(file)
    except (OSError, RuntimeError) as error:
        log.warning("the converted model can't be kept in %s: %s", folder, error)
        return model


def _convert(graph: Graph) -> openvino.Model:
    torch = import_module("torch")  # here, since most processes find the model converted
    example = torch.ones(2, 8, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes that tracing takes for constant; we say not
        return openvino.convert_model(
            graph.module,
            example_input=(example,) * graph.takes,
            input=[openvino.PartialShape([-1, -1])] * graph.takes,
        )


def _quantise(model: openvino.Model, texts: Sequence[tuple[Tokens, ...]]) -> openvino.Model:
    """After training, with SmoothQuant: NNCF's own settings for transformers."""
    try:
        nncf = import_module("nncf")
    except ImportError as error:
        raise ModelError(
            "To quantise a model takes nncf: pip install -r requirements-int8.txt where it is "
            "checked or first served, or leave out the option 'quantize'."
        ) from error
    nncf.set_log_level(logging.WARNING)
    dataset = nncf.Dataset(texts, lambda one: dict(enumerate(one)))
    with redirect_stdout(io.StringIO()):  # its progress
        return nncf.quantize(
            model, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(texts)
        )


def _keep(graph: openvino.Model, folder: Path) -> None:
    """Whole or not at all: several workers may do this at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix="draft-"))
    try:
        openvino.save_model(graph, draft / "model.xml", compress_to_fp16=False)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another worker has just put its own there
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
