"""The Pub/Sub stand-in, through the official client. Where gcloud's own emulator is installed it is held to the same;
`differs` names what that emulator is known to do otherwise than the cloud."""

import asyncio
import base64
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from google.api_core import exceptions, retry
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.types import BatchSettings, PublisherOptions
from google.pubsub_v1 import types

from local.emulators.pubsub.broker import Broker
from local.emulators.pubsub.faults import Faults
from local.emulators.pubsub.store import Store
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
PROJECT = "scanflow-test"
PATIENCE = 60  # seconds before a condition that should come true is given up; loaded machines are slow
PUBLISHING = PublisherOptions(
    enable_message_ordering=True,
    retry=retry.Retry(
        retry.if_exception_type(exceptions.ServiceUnavailable), initial=0.1, maximum=0.2, timeout=PATIENCE
    ),
)


class Service:
    """A running Pub/Sub with its clients, and short ways to do what every test does."""

    def __init__(self, address: str) -> None:
        self.address = address
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("PUBSUB_EMULATOR_HOST", address)
            self.publisher = pubsub_v1.PublisherClient(BatchSettings(max_messages=1), PUBLISHING)
            self.subscriber = pubsub_v1.SubscriberClient()

    def topic(self) -> str:
        name = f"projects/{PROJECT}/topics/t-{uuid.uuid4()}"
        self.publisher.create_topic(name=name)
        return name

    def subscription(self, topic: str, **settings) -> str:
        name = f"projects/{PROJECT}/subscriptions/s-{uuid.uuid4()}"
        self.subscriber.create_subscription(request={"name": name, "topic": topic, **settings})
        return name

    def publish(self, topic: str, data: bytes, ordering_key: str = "", **attributes: str) -> str:
        return self.publisher.publish(topic, data, ordering_key, **attributes).result(PATIENCE)

    def pull(self, subscription: str, count: int = 1) -> list:
        """Wait for so many messages, and no longer than it takes to have them."""
        received, deadline = [], time.monotonic() + PATIENCE
        while len(received) < count and time.monotonic() < deadline:
            request = {"subscription": subscription, "max_messages": count - len(received)}
            received += self.subscriber.pull(request=request, timeout=PATIENCE).received_messages
        return received

    def acknowledge(self, subscription: str, *received) -> None:
        self.subscriber.acknowledge(subscription=subscription, ack_ids=[each.ack_id for each in received])

    def refuse(self, subscription: str, *received) -> None:
        self.set_deadline(subscription, 0, *received)

    def set_deadline(self, subscription: str, seconds: int, *received) -> None:
        request = {
            "subscription": subscription,
            "ack_ids": [each.ack_id for each in received],
            "ack_deadline_seconds": seconds,
        }
        self.subscriber.modify_ack_deadline(request=request)

    @contextmanager
    def streaming(self, subscription: str, handle: Callable) -> Iterator[None]:
        """The client's own streaming pull, calling `handle` with each message."""
        future = self.subscriber.subscribe(subscription, handle)
        yield
        future.cancel()
        future.result(PATIENCE)

    def ready(self, subscription: str) -> list:
        """All that can be had this moment."""
        request = {"subscription": subscription, "max_messages": 1000, "return_immediately": True}
        with pytest.deprecated_call():
            return list(self.subscriber.pull(request=request).received_messages)


class Endpoint:
    """An HTTP server that keeps every push and answers with the next of `statuses`, then with 204."""

    def __init__(self) -> None:
        self.statuses: deque[int] = deque()
        self.bodies: list[dict] = []
        self.times: list[float] = []
        self.before_answer: Callable[[], object] = lambda: None
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.push_config = {"push_endpoint": f"http://127.0.0.1:{self._server.server_port}/pushed?to=me"}

    def wait_for(self, count: int) -> list[bytes]:
        """Data of the pushes so far, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.bodies) >= count, PATIENCE), f"{len(self.bodies)} pushes"
            return [base64.b64decode(body["message"].get("data", "")) for body in self.bodies]

    def _take(self, body: bytes) -> int:
        with self._changed:
            self.bodies.append(json.loads(body))
            self.times.append(time.monotonic())
            self._changed.notify_all()
            return self.statuses.popleft() if self.statuses else 204

    def _handler(endpoint) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                assert self.path == "/pushed?to=me"
                assert self.headers["Content-Type"] == "application/json"
                status = endpoint._take(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.before_answer()
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"" if status == 204 else b"{}")

            def handle(self) -> None:
                with suppress(ConnectionResetError):  # a process that is killed closes nothing properly
                    super().handle()

            def log_message(self, *_) -> None:
                pass

        return Handler

    @contextmanager
    def serving(self) -> Iterator["Endpoint"]:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        yield self
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def process(*command: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A running process whose log can be read, killed in the end if it still runs."""
    started = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@contextmanager
def stand_in(folder: Path, port: int = 0, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The stand-in's process, and its address once it listens."""
    command = (sys.executable, "-m", "local.emulators.pubsub", "--port", str(port), "--data-dir", folder, *options)
    with process(*command) as started:
        log = started.stdout.readline()
        assert "listening on" in log, log + started.stdout.read()
        threading.Thread(target=started.stdout.read, daemon=True).start()
        yield started, log.split()[-1]


@contextmanager
def gcloud_emulator() -> Iterator[str]:
    """The address of gcloud's own emulator once it listens; skips where that isn't installed."""
    if not (gcloud := shutil.which("gcloud")):
        pytest.skip("gcloud is not installed, so its Pub/Sub emulator is not compared with")
    command = [gcloud, "info", "--format=value(installation.sdk_root)"]
    root = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    binary = Path(root, "platform/pubsub-emulator/bin/cloud-pubsub-emulator")
    if not binary.exists():
        pytest.skip("gcloud's Pub/Sub emulator is not installed: gcloud components install pubsub-emulator")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with process(binary, "--host=127.0.0.1", f"--port={port}") as started:
        assert any("Server started" in line for line in started.stdout)
        threading.Thread(target=started.stdout.read, daemon=True).start()
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="session", params=["stand-in", "emulator"])
def pubsub(request, tmp_path_factory) -> Iterator[Service]:
    if request.param == "emulator":
        with gcloud_emulator() as address:
            yield Service(address)
    else:
        with stand_in(tmp_path_factory.mktemp("pubsub")) as (_, address):
            yield Service(address)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint().serving() as serving:
        yield serving


def differs(reason: str) -> pytest.MarkDecorator:
    """Run on the stand-in only, because gcloud's emulator is known to differ from the cloud here."""
    skipped = pytest.param("emulator", marks=pytest.mark.skip(reason=f"gcloud's emulator {reason}"))
    return pytest.mark.parametrize("pubsub", ["stand-in", skipped], indirect=True)


def data_of(received) -> list[bytes]:
    return [each.message.data for each in received]


# Topics and subscriptions


def test_topics_and_subscriptions_are_listed_until_deleted(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    project = f"projects/{PROJECT}"
    assert topic in [each.name for each in pubsub.publisher.list_topics(project=project)]
    assert subscription in [each.name for each in pubsub.subscriber.list_subscriptions(project=project)]
    assert list(pubsub.publisher.list_topic_subscriptions(topic=topic)) == [subscription]
    pubsub.subscriber.delete_subscription(subscription=subscription)
    assert list(pubsub.publisher.list_topic_subscriptions(topic=topic)) == []
    pubsub.publisher.delete_topic(topic=topic)
    with pytest.raises(exceptions.NotFound):
        pubsub.publisher.get_topic(topic=topic)
    with pytest.raises(exceptions.NotFound):
        pubsub.subscriber.get_subscription(subscription=subscription)


def test_subscription_has_pubsubs_defaults(pubsub):
    found = pubsub.subscriber.get_subscription(subscription=pubsub.subscription(pubsub.topic()))
    assert found.ack_deadline_seconds == 10
    assert not found.enable_message_ordering


def test_subscription_of_deleted_topic_still_delivers(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"before")
    pubsub.publisher.delete_topic(topic=topic)
    assert pubsub.subscriber.get_subscription(subscription=subscription).topic == "_deleted-topic_"
    assert data_of(pubsub.pull(subscription)) == [b"before"]


def test_unknown_names_are_not_found(pubsub):
    topic, subscription = f"projects/{PROJECT}/topics/nowhere", f"projects/{PROJECT}/subscriptions/nobody"
    for call in (
        lambda: pubsub.publish(topic, b"lost"),
        lambda: pubsub.subscription(topic),
        lambda: pubsub.publisher.delete_topic(topic=topic),
        lambda: pubsub.ready(subscription),
        lambda: pubsub.subscriber.delete_subscription(subscription=subscription),
        lambda: pubsub.subscriber.acknowledge(subscription=subscription, ack_ids=["1:1"]),
        lambda: pubsub.subscriber.subscribe(subscription, print).result(PATIENCE),
    ):
        with pytest.raises(exceptions.NotFound):
            call()


def test_a_name_is_given_once(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    with pytest.raises(exceptions.AlreadyExists):
        pubsub.publisher.create_topic(name=topic)
    with pytest.raises(exceptions.AlreadyExists):
        pubsub.subscriber.create_subscription(name=subscription, topic=topic)


@pytest.mark.parametrize("name", ["scans", "projects/p/topics/x", "projects/p/topics/1st", "projects/p/topics/google"])
def test_bad_topic_name_is_invalid(pubsub, name):
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publisher.create_topic(name=name)


def test_empty_message_is_invalid(pubsub):
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publish(pubsub.topic(), b"")


@pytest.mark.parametrize(
    "settings",
    [
        {"ack_deadline_seconds": 601},
        {"push_config": {"push_endpoint": "here"}},
        {"retry_policy": {"minimum_backoff": {"seconds": 601}}},
        {"retry_policy": {"minimum_backoff": {"seconds": 20}, "maximum_backoff": {"seconds": 10}}},
    ],
)
def test_impossible_settings_are_refused(pubsub, settings):
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscription(pubsub.topic(), **settings)


@differs("takes any deadline up to 600 s")
def test_deadline_under_ten_seconds_is_refused(pubsub):
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscription(pubsub.topic(), ack_deadline_seconds=9)


@pytest.mark.parametrize("attempts", [4, 101])
def test_dead_letter_policy_takes_5_to_100_attempts(pubsub, attempts):
    policy = {"dead_letter_topic": pubsub.topic(), "max_delivery_attempts": attempts}
    with pytest.raises(exceptions.BadRequest):  # INVALID_ARGUMENT here, OUT_OF_RANGE from gcloud's emulator
        pubsub.subscription(pubsub.topic(), dead_letter_policy=policy)


def test_dead_letter_topic_has_to_exist(pubsub):
    policy = {"dead_letter_topic": f"projects/{PROJECT}/topics/nowhere", "max_delivery_attempts": 5}
    with pytest.raises(exceptions.NotFound):
        pubsub.subscription(pubsub.topic(), dead_letter_policy=policy)


@differs("takes the setting")
def test_setting_the_stand_in_lacks_is_refused(pubsub):
    with pytest.raises(exceptions.MethodNotImplemented, match="enable_exactly_once_delivery"):
        pubsub.subscription(pubsub.topic(), enable_exactly_once_delivery=True)


def test_changed_deadline_is_kept_and_a_changed_topic_refused(pubsub):
    subscription = pubsub.subscription(pubsub.topic())
    changed = {"name": subscription, "ack_deadline_seconds": 33, "topic": pubsub.topic()}
    update = pubsub.subscriber.update_subscription
    update(request={"subscription": changed, "update_mask": {"paths": ["ack_deadline_seconds"]}})
    assert pubsub.subscriber.get_subscription(subscription=subscription).ack_deadline_seconds == 33
    with pytest.raises(exceptions.InvalidArgument):
        update(request={"subscription": changed, "update_mask": {"paths": ["topic"]}})


# Pull


def test_every_subscription_gets_every_message_until_it_acknowledges(pubsub):
    topic = pubsub.topic()
    one, other = pubsub.subscription(topic), pubsub.subscription(topic)
    message_id = pubsub.publish(topic, b"scan", label="Cancer")
    for subscription in (one, other):
        (received,) = pubsub.pull(subscription)
        assert received.message.message_id == message_id
        assert (received.message.data, dict(received.message.attributes)) == (b"scan", {"label": "Cancer"})
        pubsub.acknowledge(subscription, received)
        assert pubsub.ready(subscription) == []


def test_message_published_before_the_subscription_is_not_delivered(pubsub):
    topic = pubsub.topic()
    pubsub.publish(topic, b"early")
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"late")
    assert data_of(pubsub.pull(subscription)) == [b"late"]


def test_waiting_pull_answers_with_the_message_that_comes(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pubsub.pull, subscription)
        pubsub.publish(topic, b"awaited")
        assert data_of(waiting.result(PATIENCE)) == [b"awaited"]


@differs("puts all of it into one response, which the client refuses to read")
def test_more_than_one_response_can_hold_is_pulled(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    for number in range(6):
        pubsub.publish(topic, b"%d" % number + bytes(1_000_000))
    assert {data[:1] for data in data_of(pubsub.pull(subscription, 6))} == {b"%d" % number for number in range(6)}


def test_refused_message_comes_again(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"again")
    (first,) = pubsub.pull(subscription)
    pubsub.refuse(subscription, first)
    (second,) = pubsub.pull(subscription)
    assert second.message == first.message


def test_message_comes_again_when_its_deadline_passes(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"forgotten")
    (first,) = pubsub.pull(subscription)
    pubsub.set_deadline(subscription, 1, first)
    assert pubsub.ready(subscription) == []
    (second,) = pubsub.pull(subscription)
    assert second.message == first.message


@differs("ignores an acknowledgement after the deadline")
def test_late_acknowledgement_counts(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"slow")
    (late,) = pubsub.pull(subscription)
    pubsub.set_deadline(subscription, 1, late)
    (again,) = pubsub.pull(subscription)
    pubsub.acknowledge(subscription, late)
    pubsub.refuse(subscription, again)
    assert pubsub.ready(subscription) == []


# Streaming pull


def test_streaming_pull_delivers_all_and_again_what_is_refused(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    seen: queue.Queue[bytes] = queue.Queue()
    refused = threading.Event()

    def handle(message):
        if message.data == b"7" and not refused.is_set():
            refused.set()
            message.nack()
        else:
            message.ack()
            seen.put(message.data)

    with pubsub.streaming(subscription, handle):
        for number in range(20):
            pubsub.publish(topic, b"%d" % number)
        delivered = {seen.get(timeout=PATIENCE) for _ in range(20)}
    assert delivered == {b"%d" % number for number in range(20)}
    assert refused.is_set()


@differs("sends all it has, whatever the stream's flow control says")
def test_streaming_pull_holds_no_more_than_its_flow_control_allows(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    for number in range(5):
        pubsub.publish(topic, b"%d" % number)
    requests: queue.Queue[dict | None] = queue.Queue()
    requests.put({"subscription": subscription, "stream_ack_deadline_seconds": 60, "max_outstanding_messages": 2})
    responses = pubsub.subscriber.streaming_pull(iter(requests.get, None))
    held = _messages(responses, 2)
    requests.put({"ack_ids": [held[0].ack_id]})
    third = next(responses).received_messages
    assert len(third) == 1
    requests.put({"ack_ids": [third[0].ack_id, held[1].ack_id]})
    assert len({each.message.message_id for each in [*held, *third, *_messages(responses, 2)]}) == 5
    requests.put(None)


def _messages(responses, count: int) -> list:
    received = []
    while len(received) < count:
        received += next(responses).received_messages
    assert len(received) == count
    return received


def test_deleting_the_subscription_ends_the_stream(pubsub):
    subscription = pubsub.subscription(pubsub.topic())
    streaming = pubsub.subscriber.subscribe(subscription, print)
    pubsub.subscriber.delete_subscription(subscription=subscription)
    with pytest.raises(exceptions.NotFound):
        streaming.result(PATIENCE)


# Push


def test_push_body_is_pubsubs(pubsub, endpoint):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, push_config=endpoint.push_config)
    message_id = pubsub.publish(topic, b"\x00scan", label="Cancer")
    assert endpoint.wait_for(1) == [b"\x00scan"]
    (body,) = endpoint.bodies
    published = body["message"].pop("publishTime")
    assert published.endswith("Z")
    assert body["message"].pop("publish_time") == published
    assert body == {
        "message": {
            "attributes": {"label": "Cancer"},
            "data": base64.b64encode(b"\x00scan").decode(),
            "messageId": message_id,
            "message_id": message_id,
        },
        "subscription": subscription,
    }


@differs("leaves it out")
def test_push_body_names_the_ordering_key(pubsub, endpoint):
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config=endpoint.push_config)
    pubsub.publish(topic, b"scan", "key")
    endpoint.wait_for(1)
    assert endpoint.bodies[0]["message"]["orderingKey"] == "key"


@pytest.mark.parametrize("status", [102, 200, 201, 204])
def test_success_acknowledges(pubsub, endpoint, status):
    _acknowledges(pubsub, endpoint, status)


@differs("treats it as a failure")
def test_accepted_acknowledges(pubsub, endpoint):
    _acknowledges(pubsub, endpoint, 202)


def _acknowledges(pubsub: Service, endpoint: Endpoint, status: int) -> None:
    """With one ordering key, the second message comes only when the first is acknowledged."""
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config=endpoint.push_config, enable_message_ordering=True)
    endpoint.statuses.append(status)
    pubsub.publish(topic, b"1", "key")
    pubsub.publish(topic, b"2", "key")
    assert endpoint.wait_for(2) == [b"1", b"2"]


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 503])
def test_any_other_answer_is_a_refusal(pubsub, endpoint, status):
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config=endpoint.push_config)
    endpoint.statuses.append(status)
    pubsub.publish(topic, b"again")
    assert endpoint.wait_for(2) == [b"again", b"again"]


def test_message_waits_for_an_endpoint_that_is_not_there_yet(pubsub):
    endpoint = Endpoint()
    endpoint._server.socket.listen(0)
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config=endpoint.push_config)
    pubsub.publish(topic, b"patient")
    with endpoint.serving():
        assert endpoint.wait_for(1) == [b"patient"]


@differs("retries push at a flat 1.0 s")
def test_back_off_doubles_from_its_minimum_and_stops_at_its_maximum(pubsub, endpoint):
    topic = pubsub.topic()
    policy = {"minimum_backoff": {"nanos": 50_000_000}, "maximum_backoff": {"nanos": 200_000_000}}
    pubsub.subscription(topic, push_config=endpoint.push_config, retry_policy=policy)
    endpoint.statuses.extend([500] * 12)  # the last pause would be 102 s without the maximum
    pubsub.publish(topic, b"refused")
    endpoint.wait_for(13)
    pauses = [later - earlier for earlier, later in zip(endpoint.times, endpoint.times[1:], strict=False)]
    assert all(pause >= least for pause, least in zip(pauses, [0.05, 0.1] + [0.2] * 10, strict=True)), pauses


@differs("has at most 16 pushes under way")
def test_fifty_pushes_are_under_way_at_once(pubsub, endpoint):
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config=endpoint.push_config)
    together = threading.Barrier(50)
    endpoint.before_answer = lambda: together.wait(PATIENCE)
    for number in range(50):
        pubsub.publisher.publish(topic, b"%d" % number)
    endpoint.wait_for(50)
    assert not together.broken


@differs("does the same, so its ten seconds are saved")
def test_push_without_an_answer_comes_again_after_the_deadline(pubsub, endpoint):
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config=endpoint.push_config)
    ended = threading.Event()
    endpoint.before_answer = lambda: ended.wait(PATIENCE)
    pubsub.publish(topic, b"hanging")
    assert endpoint.wait_for(2) == [b"hanging", b"hanging"]
    ended.set()


def test_subscription_moves_from_pull_to_push_and_back(pubsub, endpoint):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"owed")
    pubsub.subscriber.modify_push_config(subscription=subscription, push_config=endpoint.push_config)
    assert endpoint.wait_for(1) == [b"owed"]
    pubsub.subscriber.modify_push_config(subscription=subscription, push_config={})
    pubsub.publish(topic, b"pulled")
    assert data_of(pubsub.pull(subscription)) == [b"pulled"]


# Dead letters


@pytest.fixture
def dead_letters(pubsub) -> tuple[str, dict]:
    """A subscription to the dead letters, and the policy that sends them there."""
    topic = pubsub.topic()
    policy = {"dead_letter_topic": topic, "max_delivery_attempts": 5}
    return pubsub.subscription(topic), policy


def test_message_refused_too_often_is_dead_lettered(pubsub, dead_letters):
    dead, policy = dead_letters
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, dead_letter_policy=policy)
    pubsub.publish(topic, b"poison", label="Cancer")
    for attempt in range(1, 6):
        (received,) = pubsub.pull(subscription)
        assert received.delivery_attempt == attempt
        pubsub.refuse(subscription, received)
    assert pubsub.ready(subscription) == []
    (letter,) = pubsub.pull(dead)
    assert letter.message.data == b"poison"
    assert letter.message.attributes["label"] == "Cancer"
    assert letter.message.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"
    assert letter.message.attributes["CloudPubSubDeadLetterSourceSubscription"] == subscription.split("/")[-1]
    assert letter.message.attributes["CloudPubSubDeadLetterSourceSubscriptionProject"] == PROJECT
    assert letter.message.attributes["CloudPubSubDeadLetterSourceTopicPublishTime"]


@differs("puts no deliveryAttempt into push bodies")
def test_push_counts_attempts_until_the_dead_letter(pubsub, endpoint, dead_letters):
    dead, policy = dead_letters
    topic = pubsub.topic()
    backoff = {"minimum_backoff": {"nanos": 1_000_000}, "maximum_backoff": {"nanos": 1_000_000}}
    pubsub.subscription(topic, push_config=endpoint.push_config, dead_letter_policy=policy, retry_policy=backoff)
    endpoint.statuses.extend([500] * 5)
    pubsub.publish(topic, b"poison")
    assert data_of(pubsub.pull(dead)) == [b"poison"]
    assert [body["deliveryAttempt"] for body in endpoint.bodies] == [1, 2, 3, 4, 5]


def test_message_is_kept_while_the_dead_letter_topic_is_missing(pubsub, endpoint, dead_letters):
    _, policy = dead_letters
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config=endpoint.push_config, dead_letter_policy=policy)
    pubsub.publisher.delete_topic(topic=policy["dead_letter_topic"])
    endpoint.statuses.extend([500] * 5)
    pubsub.publish(topic, b"kept")
    assert endpoint.wait_for(6) == [b"kept"] * 6


# Ordering keys


def test_ordered_push_keeps_the_order_through_refusals(pubsub, endpoint):
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config=endpoint.push_config, enable_message_ordering=True)
    endpoint.statuses.extend([204, 500, 204, 500])
    for number in range(6):
        pubsub.publish(topic, b"%d" % number, "key")
    pushed = endpoint.wait_for(8)
    assert sorted(set(pushed)) == list(dict.fromkeys(pushed))
    assert [pushed.count(b"%d" % number) for number in range(6)].count(2) == 2


def test_keys_do_not_wait_for_each_other(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, enable_message_ordering=True)
    pubsub.publish(topic, b"a1", "a")
    (held,) = pubsub.pull(subscription)
    pubsub.publish(topic, b"a2", "a")
    pubsub.publish(topic, b"b1", "b")
    assert data_of(pubsub.pull(subscription)) == [b"b1"]
    pubsub.acknowledge(subscription, held)
    assert data_of(pubsub.pull(subscription)) == [b"a2"]


def test_ordered_streaming_pull_keeps_the_order(pubsub):
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, enable_message_ordering=True)
    seen: queue.Queue[bytes] = queue.Queue()
    with pubsub.streaming(subscription, lambda message: (seen.put(message.data), message.ack())):
        for number in range(30):
            pubsub.publish(topic, b"%02d" % number, f"key{number % 2}")
        order = [seen.get(timeout=PATIENCE) for _ in range(30)]
    for key in (0, 1):
        assert [data for data in order if int(data) % 2 == key] == [b"%02d" % number for number in range(key, 30, 2)]


# Filters

MESSAGES = [
    {"lang": "en", "domain": "com"},
    {"lang": "en-GB", "domain": "org"},
    {"domain": "com", "a/b": 'say "x"'},
    {"other": "é"},
]
FILTERS = {
    "": [0, 1, 2, 3],
    "attributes:lang": [0, 1],
    "NOT attributes:lang": [2, 3],
    "-attributes:lang": [2, 3],
    'attributes.lang = "en"': [0],
    'attributes.lang="en"': [0],
    'attributes.domain != "com"': [1, 3],
    'hasPrefix(attributes.lang, "en-")': [1],
    'hasPrefix(attributes.lang, "")': [0, 1],
    'attributes."a/b" = "say \\"x\\""': [2],
    'attributes:"a/b"': [2],
    'attributes.other = "\\u00e9"': [3],
    'attributes:lang AND attributes.domain = "com"': [0],
    'attributes:other OR attributes.domain = "com"': [0, 2, 3],
    'NOT (attributes:other OR attributes.domain = "com")': [1],
    'attributes.domain = "com" AND (attributes:lang OR NOT attributes:"a/b")': [0],
    'attributes:lang AND attributes:domain AND NOT hasPrefix(attributes.domain, "o")': [0],
}


@differs("ignores filters")
def test_filter_passes_the_messages_it_describes(pubsub):
    topic = pubsub.topic()
    subscriptions = {text: pubsub.subscription(topic, filter=text) for text in FILTERS}
    for number, attributes in enumerate(MESSAGES):
        pubsub.publisher.publish(topic, b"%d" % number, **attributes).result(PATIENCE)
    passed = {text: [int(data) for data in data_of(pubsub.ready(name))] for text, name in subscriptions.items()}
    assert passed == FILTERS


@differs("ignores filters")
@pytest.mark.parametrize(
    "text",
    [
        "lang",
        "attributes",
        "attributes.lang",
        'attributes.lang = "en',
        "attributes.lang = en",
        "attributes:lang AND",
        "attributes:lang and attributes:domain",
        "attributes:a AND attributes:b OR attributes:c",
        "(attributes:lang",
        'hasPrefix(lang, "e")',
        'attributes.lang > "e"',
        'attributes.lang = "\\xzz"',
        f'attributes.lang = "{"e" * 250}"',
    ],
)
def test_malformed_filter_is_refused(pubsub, text):
    with pytest.raises(exceptions.InvalidArgument, match="filter"):
        pubsub.subscription(pubsub.topic(), filter=text)


# The process


def test_no_acknowledged_publish_is_lost_by_kill_9(tmp_path):
    acknowledged: list[str] = []
    enough = threading.Event()

    def publish_on_and_on(service: Service, topic: str) -> None:
        while not enough.is_set():
            acknowledged.append(service.publish(topic, b"scan"))

    with ThreadPoolExecutor(8) as pool, ExitStack() as processes:
        processes.callback(enough.set)
        running, address = processes.enter_context(stand_in(tmp_path))
        service = Service(address)
        topic = service.topic()
        subscription = service.subscription(topic)
        publishing = [pool.submit(publish_on_and_on, service, topic) for _ in range(8)]
        wait_until(lambda: len(acknowledged) > 300)
        running.kill()
        running.wait()
        before = len(acknowledged)
        processes.enter_context(stand_in(tmp_path, int(address.rpartition(":")[2])))
        wait_until(lambda: len(acknowledged) > before + 100)
        enough.set()
        for each in publishing:
            each.result(PATIENCE)
        kept = {each.message.message_id for each in service.pull(subscription, len(acknowledged))}
        kept |= {each.message.message_id for each in service.ready(subscription)}
    assert set(acknowledged) <= kept


def test_restart_keeps_settings_attempts_and_order_and_forgets_what_was_acknowledged(tmp_path):
    with stand_in(tmp_path) as (running, address):
        service = Service(address)
        topic = service.topic()
        policy = {"dead_letter_topic": topic, "max_delivery_attempts": 9}
        subscription = service.subscription(topic, dead_letter_policy=policy, enable_message_ordering=True)
        ids = [service.publish(topic, b"%d" % number, "key") for number in range(3)]
        service.acknowledge(subscription, *service.pull(subscription))
        service.refuse(subscription, *service.pull(subscription))
        running.terminate()
        assert running.wait(PATIENCE) == 0
    with stand_in(tmp_path, int(address.rpartition(":")[2])):
        (second,) = service.pull(subscription)
        assert (second.message.message_id, second.delivery_attempt) == (ids[1], 2)
        assert service.ready(subscription) == []
        service.acknowledge(subscription, second)
        assert [each.message.message_id for each in service.ready(subscription)] == ids[2:]
        assert service.publish(topic, b"new") not in ids


def test_restart_with_a_clock_set_back_gives_no_number_twice(tmp_path, monkeypatch):
    topic, subscription = f"projects/{PROJECT}/topics/t-1", f"projects/{PROJECT}/subscriptions/s-1"

    async def publish(at: int) -> int:
        monkeypatch.setattr(time, "time_ns", lambda: at)
        store = Store(tmp_path)
        broker = Broker(store, Faults())
        if not list(store.resources("topics")):
            broker.create_topic(types.Topic.pb()(name=topic))
            broker.create_subscription(types.Subscription.pb()(name=subscription, topic=topic))
        request = types.PublishRequest.pb()(topic=topic, messages=[types.PubsubMessage.pb()(data=b"scan")])
        (number,) = broker.publish(request).message_ids
        await store.committed()
        store.close()
        return int(number)

    today = 1_800_000_000_000_000_000
    numbers = [asyncio.run(publish(at)) for at in (today, today, today - 3600 * 10**9)]
    assert len(set(numbers)) == 3


def test_restart_pushes_what_is_still_owed(tmp_path, endpoint):
    with stand_in(tmp_path) as (running, address):
        service = Service(address)
        topic = service.topic()
        endpoint.statuses.extend([500] * 3)
        service.subscription(topic, push_config=endpoint.push_config)
        service.publish(topic, b"owed")
        endpoint.wait_for(1)
        running.kill()
        running.wait()
    pushed = len(endpoint.bodies)
    with stand_in(tmp_path):
        assert set(endpoint.wait_for(pushed + 1)) == {b"owed"}


def test_one_ctrl_c_ends_it_with_a_stream_open(tmp_path):
    with stand_in(tmp_path) as (running, address):
        service = Service(address)
        topic = service.topic()
        seen = threading.Event()
        subscription = service.subscription(topic)
        streaming = service.subscriber.subscribe(subscription, lambda message: (message.ack(), seen.set()))
        service.publish(topic, b"connected")
        assert seen.wait(PATIENCE)
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE) == 0
        streaming.cancel()


def test_folder_and_port_are_used_by_one_process(tmp_path):
    with stand_in(tmp_path / "one") as (_, address):
        command = (sys.executable, "-m", "local.emulators.pubsub", "--port", address.rpartition(":")[2], "--data-dir")
        with process(*command, tmp_path / "one") as same_folder, process(*command, tmp_path / "two") as same_port:
            assert "Does another process use it?" in same_folder.stdout.read()
            assert "another process may use" in same_port.stdout.read()
            assert (same_folder.wait(PATIENCE), same_port.wait(PATIENCE)) == (1, 1)


# What Pub/Sub may do


def test_acknowledged_messages_are_delivered_once_more_and_then_no_more(tmp_path, endpoint):
    with stand_in(tmp_path, 0, "--duplicate", "1") as (_, address):
        service = Service(address)
        topic = service.topic()
        subscription = service.subscription(topic)
        service.subscription(topic, push_config=endpoint.push_config)
        service.publish(topic, b"twice")
        assert endpoint.wait_for(2) == [b"twice", b"twice"]
        for _ in range(2):
            (received,) = service.pull(subscription)
            service.acknowledge(subscription, received)
        assert service.ready(subscription) == []
        assert len(endpoint.bodies) == 2


def test_late_messages_are_overtaken(tmp_path):
    with stand_in(tmp_path, 0, "--late", "0.5", "--seed", "1") as (_, address):
        service = Service(address)
        topic = service.topic()
        subscription = service.subscription(topic)
        ids = [service.publish(topic, b"%d" % number) for number in range(20)]
        received = [each.message.message_id for each in service.pull(subscription, len(ids))]
        assert sorted(received) == sorted(ids)
        assert received != ids


def test_thin_pulls_bring_fewer_messages_than_there_are_and_all_in_the_end(tmp_path):
    with stand_in(tmp_path, 0, "--thin-pulls", "--seed", "1") as (_, address):
        service = Service(address)
        topic = service.topic()
        subscription = service.subscription(topic)
        for number in range(50):
            service.publish(topic, b"%d" % number)
        pulls = []
        while sum(pulls) < 50:
            request = {"subscription": subscription, "max_messages": 50}
            received = service.subscriber.pull(request=request, timeout=PATIENCE).received_messages
            pulls.append(len(received))
            service.acknowledge(subscription, *received)
        assert len(pulls) > 1
        assert service.ready(subscription) == []
