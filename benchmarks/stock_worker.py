"""RQ's own SimpleWorker with the model in memory: one job at a time, as RQ runs it.

`python -m benchmarks.stock_worker` serves beside `manage.py serve` until it is stopped.
"""

import os

import django


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "velo_site.settings"
    django.setup()

    from rq import SimpleWorker

    from workers import jobs, predictors
    from workers.broker import leases
    from workers.broker.connection import connection, queue
    from workers.broker.wire import JSONSerializer
    from workers.catalog import plan
    from workers.host import machine
    from workers.host.ticker import Ticker
    from workers.metrics.latency import Recorder
    from workers.runtime.runner import Runner

    class StockWorker(SimpleWorker):
        log_result_lifespan = False

    threads = machine.threads(1)
    spec = predictors.declared()
    runner = Runner(predictors.load(spec, threads), "stock", Recorder())
    runner.use_threads(threads)
    runner.predictor.warm_up()
    jobs.install(runner)
    plan.publish_if_there_is_none(spec)
    lease = leases.of_this_process("stock", [spec.label], spec.label)
    Ticker("lease", 1.0, lambda: lease.renew(create=True)).start()
    queues = [queue(spec.label)]
    StockWorker(queues, connection=connection(), serializer=JSONSerializer).work(
        logging_level="WARNING"
    )


if __name__ == "__main__":
    main()
