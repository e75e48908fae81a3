"""RQ's own SimpleWorker with the model in memory: one job at a time, as RQ runs it.

`python -m benchmarks.stock_worker` serves beside `manage.py serve` until it is stopped.
"""

import os

import django


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "velo_site.settings"
    django.setup()

    from rq import SimpleWorker

    from workers import host, jobs, leases, predictors, queue
    from workers.latency import Recorder
    from workers.runner import Runner
    from workers.ticker import Ticker
    from workers.wire import JSONSerializer

    class StockWorker(SimpleWorker):
        log_result_lifespan = False

    threads = host.threads(1)
    runner = Runner(predictors.load(predictors.declared(), threads), "stock", Recorder())
    runner.use_threads(threads)
    runner.predictor.warm_up()
    jobs.install(runner)
    Ticker(
        "lease", 1.0, lambda: leases.of_this_process("stock", [queue.QUEUE]).renew(anew=True)
    ).start()
    StockWorker([queue.queue()], connection=queue.connection(), serializer=JSONSerializer).work(
        logging_level="WARNING"
    )


if __name__ == "__main__":
    main()
