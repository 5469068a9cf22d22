"""A stand-in for Google Cloud Pub/Sub on one machine, for the official clients with PUBSUB_EMULATOR_HOST set.

    python -m local.emulators.pubsub --host 127.0.0.1 --port 8085 --data-dir .local/emulators/pubsub

This is the entry point: gRPC in, gRPC out. Behind it, `broker.py` has the topics and subscriptions, `queue.py`
what each subscription owes, `push.py` posts it, and `store.py` keeps it across restarts.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from operator import methodcaller
from pathlib import Path
from random import Random

import grpc
from google.pubsub_v1 import types

from local.emulators.pubsub.broker import Broker, Refused
from local.emulators.pubsub.faults import Faults
from local.emulators.pubsub.messages import Context, Handler, Proto
from local.emulators.pubsub.queue import Delivery, Queue
from local.emulators.pubsub.store import Store

_PULL_WAIT = 0.25  # seconds that an empty Pull waits for a message; of Pub/Sub only "a bounded amount of time" is known
_BATCH = 1000  # messages in one response; also Pub/Sub's limit
_UNLIMITED = 1 << 62
_GRACE = 0.5  # seconds for answers under way when the process ends
_SERIALISE = methodcaller("SerializeToString")
_OPTIONS = (
    ("grpc.max_receive_message_length", 20 << 20),  # Pub/Sub takes 10 MB of messages a publish
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server on it
)


class PullCall:
    """Consumer behind one Pull that found nothing: takes the first messages to come."""

    def __init__(self, queue: Queue, most: int) -> None:
        self.deadline: float | None = queue.resource.ack_deadline_seconds
        self.answer: asyncio.Future[list[Delivery]] = asyncio.get_running_loop().create_future()
        self._most = most

    def room(self) -> int:
        """All that the call asked for, once."""
        return 0 if self.answer.done() else self._most

    def send(self, deliveries: list[Delivery]) -> None:
        """Answer the call."""
        self.answer.set_result(deliveries)

    def release(self, delivery: Delivery) -> None:
        """Nothing to do: the call is over."""

    def end(self) -> None:
        """Answer with nothing."""
        if not self.answer.done():
            self.answer.set_result([])


class Stream:
    """Consumer behind one StreamingPull: holds no more than the client's flow control allows."""

    def __init__(self, opening: Proto) -> None:
        self.deadline: float | None = opening.stream_ack_deadline_seconds
        self.outbox: asyncio.Queue[list[Delivery] | None] = asyncio.Queue()
        self._messages_left = opening.max_outstanding_messages or _UNLIMITED
        self._bytes_left = opening.max_outstanding_bytes or _UNLIMITED

    def room(self) -> int:
        """Messages that the client may still be sent."""
        return min(self._messages_left, _BATCH) if self._bytes_left > 0 else 0

    def send(self, deliveries: list[Delivery]) -> None:
        """Send them with the stream's next response."""
        self._messages_left -= len(deliveries)
        self._bytes_left -= sum(delivery.size for delivery in deliveries)
        self.outbox.put_nowait(deliveries)

    def release(self, delivery: Delivery) -> None:
        """Make room for another."""
        self._messages_left += 1
        self._bytes_left += delivery.size

    def end(self) -> None:
        """End the stream."""
        self.outbox.put_nowait(None)


class Servicer:
    """Turns gRPC calls into calls of the broker, and answers when all they changed is safe from `kill -9`."""

    def __init__(self, broker: Broker, store: Store, faults: Faults) -> None:
        self._broker = broker
        self._store = store
        self._faults = faults

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """The two services. Methods that are not here answer UNIMPLEMENTED."""
        broker = self._broker
        publisher = {
            "CreateTopic": self._unary(broker.create_topic, types.Topic.pb()),
            "GetTopic": self._unary(broker.get_topic, types.GetTopicRequest.pb()),
            "ListTopics": self._unary(broker.list_topics, types.ListTopicsRequest.pb()),
            "DeleteTopic": self._unary(broker.delete_topic, types.DeleteTopicRequest.pb()),
            "ListTopicSubscriptions": self._unary(
                broker.list_topic_subscriptions, types.ListTopicSubscriptionsRequest.pb()
            ),
            "Publish": self._unary(broker.publish, types.PublishRequest.pb()),
        }
        subscriber = {
            "CreateSubscription": self._unary(broker.create_subscription, types.Subscription.pb()),
            "GetSubscription": self._unary(broker.get_subscription, types.GetSubscriptionRequest.pb()),
            "ListSubscriptions": self._unary(broker.list_subscriptions, types.ListSubscriptionsRequest.pb()),
            "UpdateSubscription": self._unary(broker.update_subscription, types.UpdateSubscriptionRequest.pb()),
            "ModifyPushConfig": self._unary(broker.modify_push_config, types.ModifyPushConfigRequest.pb()),
            "DeleteSubscription": self._unary(broker.delete_subscription, types.DeleteSubscriptionRequest.pb()),
            "Acknowledge": self._unary(broker.acknowledge, types.AcknowledgeRequest.pb()),
            "ModifyAckDeadline": self._unary(broker.modify_ack_deadline, types.ModifyAckDeadlineRequest.pb()),
            "Pull": _unary_handler(self._pull, types.PullRequest.pb()),
            "StreamingPull": grpc.stream_stream_rpc_method_handler(
                self._streaming_pull, types.StreamingPullRequest.pb().FromString, _SERIALISE
            ),
        }
        return [
            grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher),
            grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber),
        ]

    def _unary(self, act: Callable[[Proto], Proto], request_type: Proto) -> Handler:
        async def answer(request: Proto, context: Context) -> Proto:
            try:
                response = act(request)
            except Refused as refusal:
                await context.abort(refusal.code, str(refusal))
            await self._store.committed()
            return response

        return _unary_handler(answer, request_type)

    async def _pull(self, request: Proto, context: Context) -> Proto:
        queue = await self._queue(request.subscription, context)
        if request.max_messages <= 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "A pull asks for at least one message.")
        call = PullCall(queue, self._faults.pulled(min(request.max_messages, _BATCH)))
        deliveries = queue.lease(call, call.room())
        if not deliveries and not request.return_immediately:
            deliveries = await _first_to_come(queue, call)
        return types.PullResponse.pb()(received_messages=_received(queue, deliveries))

    async def _streaming_pull(self, requests: AsyncIterator[Proto], context: Context) -> AsyncIterator[Proto]:
        opening = await anext(aiter(requests))
        queue = await self._queue(opening.subscription, context)
        if not 10 <= opening.stream_ack_deadline_seconds <= 600:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "A stream's deadline is 10 to 600 seconds.")
        stream = Stream(opening)
        listening = asyncio.create_task(_listen(requests, queue, stream))
        queue.attach(stream)
        try:
            while (deliveries := await stream.outbox.get()) is not None:
                yield _streamed(queue, deliveries)
        finally:
            queue.detach(stream)
            listening.cancel()
        await self._queue(opening.subscription, context)

    async def _queue(self, name: str, context: Context) -> Queue:
        try:
            return self._broker.queue(name)
        except Refused as refusal:
            await context.abort(refusal.code, str(refusal))


def _unary_handler(answer: Callable[..., Awaitable[Proto]], request_type: Proto) -> Handler:
    return grpc.unary_unary_rpc_method_handler(answer, request_type.FromString, _SERIALISE)


async def _first_to_come(queue: Queue, call: PullCall) -> list[Delivery]:
    queue.attach(call)
    try:
        await asyncio.wait([call.answer], timeout=_PULL_WAIT)
    finally:
        queue.detach(call)
    return call.answer.result() if call.answer.done() else []


async def _listen(requests: AsyncIterator[Proto], queue: Queue, stream: Stream) -> None:
    """Follow what the client says on an open stream, until it has said all."""
    async for request in requests:
        if request.stream_ack_deadline_seconds:
            stream.deadline = request.stream_ack_deadline_seconds
        for ack_id in request.ack_ids:
            queue.acknowledge(ack_id)
        for ack_id, seconds in zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=False):
            queue.modify_deadline(ack_id, seconds)
    stream.end()


def _streamed(queue: Queue, deliveries: list[Delivery]) -> Proto:
    response = types.StreamingPullResponse.pb()(received_messages=_received(queue, deliveries))
    response.subscription_properties.message_ordering_enabled = queue.resource.enable_message_ordering
    return response


def _received(queue: Queue, deliveries: list[Delivery]) -> list[Proto]:
    received = types.ReceivedMessage.pb()
    return [
        received(
            ack_id=delivery.ack_id,
            message=delivery.message,
            delivery_attempt=delivery.failures + 1 if queue.attempts_counted else 0,
        )
        for delivery in deliveries
    ]


async def serve(host: str, port: int, store: Store, faults: Faults) -> None:
    """Serve until SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    for ending in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ending, stopped.set)
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers(Servicer(Broker(store, faults), store, faults).handlers())
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        sys.exit(f"Can't listen on {host}:{port}, which another process may use: {error}")
    await server.start()
    logging.getLogger("local.emulators.pubsub").info("listening on %s:%d", host, bound)
    await stopped.wait()
    await server.stop(_GRACE)
    await store.committed()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.emulators.pubsub", description="Stand-in for Google Cloud Pub/Sub."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 takes a free one and logs it")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that keeps everything across restarts")
    parser.add_argument("--duplicate", type=float, default=0, help="share of acknowledged messages delivered again")
    parser.add_argument("--late", type=float, default=0, help="share of deliveries put off for up to 5 s")
    parser.add_argument("--thin-pulls", action="store_true", help="answer pulls with fewer messages than there are")
    parser.add_argument("--seed", type=int, help="seed of what is duplicated, late and thin")
    return parser.parse_args()


def main() -> None:
    """Run the server, or say why it can't."""
    arguments = _arguments()
    random = Random(arguments.seed)  # noqa: S311 - draws faults, not secrets
    faults = Faults(arguments.duplicate, arguments.late, arguments.thin_pulls, random)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        with contextlib.closing(Store(arguments.data_dir)) as store:
            asyncio.run(serve(arguments.host, arguments.port, store, faults))
    except sqlite3.OperationalError as error:
        sys.exit(f"{arguments.data_dir} can't be used: {error}. Does another process use it?")


if __name__ == "__main__":
    main()
