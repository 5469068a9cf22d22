"""The Spark job: prepare the scans of a manifest, compute their features, load them into BigQuery.

    python -m services.preprocessing --manifest ID
    python -m services.preprocessing --refit
    python -m services.preprocessing --again

Exit status: 0 where every scan was prepared; 3 where all is done but for scans that are now rows of the errors table.
"""

import argparse
import sys

from pyspark.sql import SparkSession

from services.preprocessing.job import prepare_again, preprocess, refit
from services.preprocessing.report import Summary
from shared.gcp import logs

SOME_FAILED = 3


def main() -> int:
    """Run the job on the Spark that this process was submitted to."""
    arguments = _arguments()
    logs.configure()
    spark = session()
    summaries = _run(spark, arguments)
    print(*summaries, sep="\n")
    spark.stop()
    return SOME_FAILED if any(summary.errors for summary in summaries) else 0


def _run(spark: SparkSession, arguments: argparse.Namespace) -> list[Summary]:
    if arguments.again:
        return prepare_again(spark)
    return [refit(spark) if arguments.refit else preprocess(spark, arguments.manifest)]


def session() -> SparkSession:
    """Spark with a progress bar; master, cores and memory are the submitter's business."""
    return SparkSession.builder.appName("scanflow").config("spark.ui.showConsoleProgress", "true").getOrCreate()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--manifest", help="id of the manifest to prepare")
    task.add_argument("--refit", action="store_true", help="fit on all prepared scans, compute their features again")
    task.add_argument("--again", action="store_true", help="every finished manifest, after a new preprocessing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
