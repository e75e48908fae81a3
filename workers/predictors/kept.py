"""What a machine keeps of a model that it has read once.

The next process that serves the model then needs neither torch nor transformers, whose imports take
seconds and hundreds of megabytes. In VELO_VAR/openvino, a folder for each model:

    tokenizer.json                the tokenizer
    facts-SETTINGS.json           what else a predictor must know, besides the weights; there as
                                  soon as another engine than torch has served these options
    GRAPH/model.xml, model.bin    the model in OpenVINO's own form; GRAPH-int8: quantised
    GRAPH/golden-TOKENS.npy       what the reference makes of the golden texts
    GRAPH/race-PLACE.json         which engine is the fastest, with these settings and processor
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy
from django.conf import settings
from tokenizers import Tokenizer

from workers.host import machine, turns
from workers.predictors import folder
from workers.predictors.engines import Outputs, Tokens
from workers.predictors.engines.race import Entrant, Result
from workers.predictors.protocol import Spec

log = logging.getLogger(__name__)

# Another version of one of them may make something else of the same files.
LIBRARIES = ("openvino", "torch", "transformers", "tokenizers")
FORM = 2  # of these files
RACES = "races.lock"  # in VELO_VAR: the process that holds it runs a race
PATIENCE = 300.0  # seconds that another process's race is waited for


@dataclass(frozen=True)
class Facts:
    """What config.json and the tokenizer's files say."""

    hidden: int  # numbers of a token's last state
    positions: int | None  # tokens that the model has positions for; None: no limit
    labels: list[str]  # of a head's outputs, in their order
    problem: str | None  # config.json's problem_type
    takes_types: bool  # it tells apart the two texts of a pair
    padding: int  # the id of the padding's token
    pads_left: bool
    truncation_side: str  # "left" or "right"
    longest: int  # tokens that the tokenizer lets a text have
    special: tuple[int, int]  # tokens that it adds to a text, and to a pair


class Kept:
    """The folder of one model."""

    def __init__(self, spec: Spec) -> None:
        assert spec.folder
        digest = spec.digest or folder.digest(spec.folder)
        libraries = " ".join(version(name) for name in LIBRARIES)
        name = f"{digest[:12]}-{spec.kind}-{_hash(f'{FORM} {digest} {spec.kind} {libraries}')}"
        self.folder: Path = settings.VELO_VAR / "openvino" / name
        served = [
            json.dumps(spec.options, sort_keys=True),
            *(settings.VELO_ENGINE, settings.VELO_DTYPE, settings.VELO_DEVICE),
            str(machine.may_have_gpu()),
        ]
        self._place = _hash(" ".join(served), machine.processor(), str(machine.cores()))
        self._facts = self.folder / f"facts-{_hash(' '.join(served))}.json"

    def is_there(self) -> bool:
        """Whether the model was served without torch before."""
        return self._facts.exists()

    def read(self) -> tuple[Facts, Tokenizer] | None:
        """None: not kept yet, or broken."""
        try:
            found = json.loads(self._facts.read_bytes())
            facts = Facts(**{**found, "special": tuple(found["special"])})
            return facts, Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - tokenizers raises nothing narrower
            log.warning("%s can't be read (%s); reading the model again", self.folder, error)
            return None

    def write(self, facts: Facts, tokenizer: Tokenizer) -> None:
        """Does nothing but say so where nothing can be kept, like the other writers."""
        self._put(self.folder / "tokenizer.json", lambda path: tokenizer.save(str(path)))
        self._put(self._facts, lambda path: path.write_text(json.dumps(asdict(facts))))

    def graph(self, name: str) -> Path:
        """The folder of what an engine computes of the model."""
        return self.folder / name

    def outputs(self, graph: str, golden: tuple[Tokens, ...]) -> Outputs | None:
        """Of the reference, for these inputs. None: not kept yet, or broken."""
        try:
            found: Outputs = numpy.load(self._golden(graph, golden), allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            log.warning("%s can't be read (%s); computing it again", self.graph(graph), error)
            return None
        return found if len(found) == len(golden[0]) else None

    def write_outputs(self, graph: str, golden: tuple[Tokens, ...], outputs: Outputs) -> None:
        def save(path: Path) -> None:
            with path.open("wb") as file:
                numpy.save(file, outputs, allow_pickle=False)

        self._put(self._golden(graph, golden), save)

    def race(self, graph: str) -> Result | None:
        """None: not run yet on such a processor, or broken."""
        try:
            found = json.loads(self._race(graph).read_bytes())
            entrants = tuple(Entrant(**one) for one in found["entrants"])
            return Result(entrants, found["texts"], tuple(found["refused"])) if entrants else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s can't be read (%s); timing again", self._race(graph), error)
            return None

    def write_race(self, graph: str, result: Result) -> None:
        self._put(self._race(graph), lambda path: path.write_text(json.dumps(asdict(result))))

    @contextmanager
    def racing(self) -> Iterator[None]:
        """While this lasts no other process that shares VELO_VAR runs a race. Two races at once
        would spoil each other's times, and their processes might serve with different engines: a
        process that has waited finds the result. Where no lock can be had it races all the same."""
        with ExitStack() as held:
            try:
                if not held.enter_context(turns.taken(settings.VELO_VAR / RACES, PATIENCE)):
                    log.warning("another race lasts longer than %g s; not waiting on", PATIENCE)
            except OSError as error:
                log.warning("%s: another race can't be waited for: %s", settings.VELO_VAR, error)
            yield

    def _race(self, graph: str) -> Path:
        return self.graph(graph) / f"race-{self._place}.json"

    def _golden(self, graph: str, golden: tuple[Tokens, ...]) -> Path:
        tokens = _hash(*(part for one in golden for part in (f"{one.shape}", one.tobytes())))
        return self.graph(graph) / f"golden-{tokens}.npy"

    def _put(self, path: Path, write: Callable[[Path], object]) -> None:
        """Whole or not at all: several processes may do this at the same time."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix="draft-") as place:
                draft = Path(place) / path.name
                write(draft)
                draft.replace(path)
        except Exception as error:  # noqa: BLE001 - tokenizers raises nothing narrower
            log.warning("%s can't be kept: %s", path, error)


def _hash(*parts: str | bytes) -> str:
    """8 hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else part)
    return total.hexdigest()[:8]
