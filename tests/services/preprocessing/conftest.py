"""One Spark session for all tests of the job, over the running stack."""

import os
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from local.emulators.dataproc import spark_environment
from local.java import java_home
from local.stack.system import Stack


@pytest.fixture(scope="session")
def spark(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """Spark on two cores; its workers see the stack's stand-ins."""
    os.environ.update(spark_environment(java_home(tmp_path_factory.mktemp("java"))))
    session = SparkSession.builder.appName("tests").getOrCreate()
    yield session
    session.stop()
