"""RQ's own SimpleWorker with the model in memory: one job at a time, as RQ runs it.

`python -m benchmarks.stock_worker` serves beside `manage.py serve` until it is stopped.
"""

import os

import django


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "velo_site.settings"
    django.setup()

    from rq import SimpleWorker

    from workers import host, jobs, leases, plan, predictors, queue
    from workers.latency import Recorder
    from workers.runner import Runner
    from workers.ticker import Ticker
    from workers.wire import JSONSerializer

    class StockWorker(SimpleWorker):
        log_result_lifespan = False

    threads = host.threads(1)
    spec = predictors.declared()
    runner = Runner(predictors.load(spec, threads), "stock", Recorder())
    runner.use_threads(threads)
    runner.predictor.warm_up()
    jobs.install(runner)
    plan.publish_if_there_is_none(spec)
    lease = leases.of_this_process("stock", [spec.label], spec.label)
    Ticker("lease", 1.0, lambda: lease.renew(anew=True)).start()
    queues = [queue.queue(spec.label)]
    StockWorker(queues, connection=queue.connection(), serializer=JSONSerializer).work(
        logging_level="WARNING"
    )


if __name__ == "__main__":
    main()
