"""Topics and subscriptions of the Pub/Sub stand-in: all methods of its API that answer at once."""

import itertools
import logging
import re
import time
from collections.abc import Container, Mapping
from datetime import timedelta

import grpc
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

from local.emulators.pubsub.faults import Faults
from local.emulators.pubsub.filters import parse_filter
from local.emulators.pubsub.messages import Message, Proto, Subscription
from local.emulators.pubsub.push import Push
from local.emulators.pubsub.queue import Delivery, Queue
from local.emulators.pubsub.store import Store

_NAME = r"projects/[^/]+/{}/(?!goog)[A-Za-z][\w.~+%-]{{2,254}}"
_DELETED_TOPIC = "_deleted-topic_"
_UNSUPPORTED = {"bigquery_config", "cloud_storage_config", "enable_exactly_once_delivery", "message_transforms"}
_FIXED = {"name", "topic", "filter", "enable_message_ordering"}

log = logging.getLogger(__name__)


class Refused(Exception):
    """The request can't be served; the client is told the code and the sentence."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Broker:
    """The state behind the API. Methods take and return the API's protobuf messages and raise Refused."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store = store
        self._faults = faults
        self._topics: dict[str, Proto] = {}
        self._queues: dict[str, Queue] = {}
        self._fan_out: dict[str, list[Queue]] = {}
        self._pushes: dict[str, Push] = {}
        # An earlier process has used fewer than one a microsecond; its clock may have been ahead of ours.
        self._ids = itertools.count(max(time.time_ns() // 1000, store.last_message() + 1))
        self._restore()

    def create_topic(self, topic: Proto) -> Proto:
        """CreateTopic."""
        _check_new(topic.name, "topics", self._topics)
        self._topics[topic.name] = topic
        self._fan_out[topic.name] = []
        self._store.put("topics", topic.name, topic.SerializeToString())
        return topic

    def get_topic(self, request: Proto) -> Proto:
        """GetTopic."""
        return _found(self._topics, request.topic)

    def list_topics(self, request: Proto) -> Proto:
        """ListTopics: all on one page."""
        prefix = f"{request.project}/topics/"
        topics = [topic for name, topic in self._topics.items() if name.startswith(prefix)]
        return types.ListTopicsResponse.pb()(topics=topics)

    def delete_topic(self, request: Proto) -> Empty:
        """DeleteTopic: its subscriptions stay, and still deliver what they owe."""
        _found(self._topics, request.topic)
        for queue in self._fan_out.pop(request.topic):
            queue.resource.topic = _DELETED_TOPIC
            self._keep(queue)
        del self._topics[request.topic]
        self._store.remove("topics", request.topic)
        return Empty()

    def list_topic_subscriptions(self, request: Proto) -> Proto:
        """ListTopicSubscriptions: all on one page."""
        names = [queue.name for queue in _found(self._fan_out, request.topic)]
        return types.ListTopicSubscriptionsResponse.pb()(subscriptions=names)

    def publish(self, request: Proto) -> Proto:
        """Publish."""
        _found(self._topics, request.topic)
        _check(request.messages, "A publish needs at least one message.")
        for message in request.messages:
            _check(message.data or message.attributes, "A message needs data or an attribute.")
        ids = [self._publish(request.topic, message) for message in request.messages]
        return types.PublishResponse.pb()(message_ids=ids)

    def create_subscription(self, resource: Proto) -> Proto:
        """CreateSubscription."""
        _check_new(resource.name, "subscriptions", self._queues)
        _found(self._topics, resource.topic)
        self._complete(resource)
        self._keep(self._open(resource))
        return resource

    def get_subscription(self, request: Proto) -> Proto:
        """GetSubscription."""
        return self.queue(request.subscription).resource

    def list_subscriptions(self, request: Proto) -> Proto:
        """ListSubscriptions: all on one page."""
        prefix = f"{request.project}/subscriptions/"
        subscriptions = [queue.resource for name, queue in self._queues.items() if name.startswith(prefix)]
        return types.ListSubscriptionsResponse.pb()(subscriptions=subscriptions)

    def update_subscription(self, request: Proto) -> Proto:
        """UpdateSubscription, of the fields in the mask."""
        queue = self.queue(request.subscription.name)
        for path in request.update_mask.paths:
            _check(path.partition(".")[0] not in _FIXED, f"The {path} of a subscription can't be changed.")
        changed = Subscription.FromString(queue.resource.SerializeToString())
        request.update_mask.MergeMessage(request.subscription, changed, True, True)  # replaces instead of merging
        return self._reconfigure(queue, changed)

    def modify_push_config(self, request: Proto) -> Empty:
        """ModifyPushConfig: an empty one makes it a pull subscription."""
        queue = self.queue(request.subscription)
        changed = Subscription.FromString(queue.resource.SerializeToString())
        changed.push_config.CopyFrom(request.push_config)
        self._reconfigure(queue, changed)
        return Empty()

    def delete_subscription(self, request: Proto) -> Empty:
        """DeleteSubscription, and all that it owes."""
        queue = self.queue(request.subscription)
        queue.close()
        del self._queues[queue.name]
        self._pushes.pop(queue.name, None)
        if queue.resource.topic != _DELETED_TOPIC:
            self._fan_out[queue.resource.topic].remove(queue)
        self._store.remove("subscriptions", queue.name)
        return Empty()

    def acknowledge(self, request: Proto) -> Empty:
        """Acknowledge."""
        queue = self.queue(request.subscription)
        for ack_id in request.ack_ids:
            queue.acknowledge(ack_id)
        return Empty()

    def modify_ack_deadline(self, request: Proto) -> Empty:
        """ModifyAckDeadline; 0 seconds refuse the message."""
        queue = self.queue(request.subscription)
        _check(0 <= request.ack_deadline_seconds <= 600, "An acknowledgement deadline is 0 to 600 seconds.")
        for ack_id in request.ack_ids:
            queue.modify_deadline(ack_id, request.ack_deadline_seconds)
        return Empty()

    def queue(self, name: str) -> Queue:
        """The subscription of that name."""
        return _found(self._queues, name)

    def _restore(self) -> None:
        for serialised in self._store.resources("topics"):
            topic = types.Topic.pb().FromString(serialised)
            self._topics[topic.name] = topic
            self._fan_out[topic.name] = []
        for serialised in list(self._store.resources("subscriptions")):
            resource = Subscription.FromString(serialised)
            self._open(resource).restore(self._store.deliveries(resource.name))

    def _open(self, resource: Proto) -> Queue:
        queue = self._queues[resource.name] = Queue(resource, self._store, self._faults, self._dead_letter)
        if resource.topic != _DELETED_TOPIC:
            self._fan_out[resource.topic].append(queue)
        self._start_push(queue)
        return queue

    def _keep(self, queue: Queue) -> None:
        self._store.put("subscriptions", queue.name, queue.resource.SerializeToString())

    def _reconfigure(self, queue: Queue, changed: Proto) -> Proto:
        self._complete(changed)
        if push := self._pushes.pop(queue.name, None):
            queue.detach(push)
            push.end()
        queue.configure(changed)
        self._start_push(queue)
        self._keep(queue)
        return changed

    def _start_push(self, queue: Queue) -> None:
        if queue.resource.push_config.push_endpoint:
            self._pushes[queue.name] = Push(queue)
            queue.attach(self._pushes[queue.name])

    def _complete(self, resource: Proto) -> None:
        _complete(resource)
        if topic := resource.dead_letter_policy.dead_letter_topic:
            _found(self._topics, topic)

    def _publish(self, topic: str, message: Proto) -> str:
        message.message_id = str(next(self._ids))
        message.publish_time.FromMilliseconds(time.time_ns() // 1_000_000)
        if queues := self._fan_out[topic]:
            serialised = message.SerializeToString()
            for queue in queues:
                queue.add(message, serialised)
        return str(message.message_id)

    def _dead_letter(self, queue: Queue, delivery: Delivery) -> bool:
        """Publish to the dead-letter topic, as https://cloud.google.com/pubsub/docs/dead-letter-topics tells it."""
        topic = queue.resource.dead_letter_policy.dead_letter_topic
        log.warning("%s: dead-lettered after %d attempts", queue.name, delivery.failures)
        if topic not in self._topics:
            log.warning("%s: its dead-letter topic %s does not exist, so it keeps trying", queue.name, topic)
            return False
        _, project, _, subscription = queue.name.split("/")
        message = Message(data=delivery.message.data, ordering_key=delivery.message.ordering_key)
        message.attributes.update(delivery.message.attributes)
        message.attributes.update(
            CloudPubSubDeadLetterSourceDeliveryCount=str(delivery.failures),
            CloudPubSubDeadLetterSourceSubscription=subscription,
            CloudPubSubDeadLetterSourceSubscriptionProject=project,
            CloudPubSubDeadLetterSourceTopicPublishTime=delivery.message.publish_time.ToJsonString(),
        )
        self._publish(topic, message)
        return True


def _complete(resource: Proto) -> None:
    """Fill in Pub/Sub's defaults; refuse what Pub/Sub refuses, and what only it can do.

    What a local run can do without is taken and has no effect: labels, retention, expiry, the push's OIDC token.
    """
    unsupported = {field.name for field, _ in resource.ListFields()} & _UNSUPPORTED
    if unsupported or resource.push_config.HasField("no_wrapper"):
        names = ", ".join(sorted(unsupported)) or "no_wrapper"
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"The local stand-in for Pub/Sub has no {names}.")
    endpoint = resource.push_config.push_endpoint
    _check(not endpoint or re.match(r"https?://[^/:]", endpoint), f"{endpoint} is no address to push to.")
    resource.ack_deadline_seconds = resource.ack_deadline_seconds or 10
    _check(10 <= resource.ack_deadline_seconds <= 600, "An acknowledgement deadline is 10 to 600 seconds.")
    _complete_retry_policy(resource)
    _complete_dead_letter_policy(resource)
    try:
        parse_filter(resource.filter)
    except ValueError as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"The filter {error}.") from error


def _complete_retry_policy(resource: Proto) -> None:
    if not resource.HasField("retry_policy"):
        return
    policy = resource.retry_policy
    for name, default in (("minimum_backoff", 10), ("maximum_backoff", 600)):
        if not policy.HasField(name):
            getattr(policy, name).FromSeconds(default)
    shortest, longest = policy.minimum_backoff.ToTimedelta(), policy.maximum_backoff.ToTimedelta()
    _check(
        timedelta(0) <= shortest <= longest <= timedelta(seconds=600),
        "A retry policy's back-off is 0 to 600 seconds, the minimum no longer than the maximum.",
    )


def _complete_dead_letter_policy(resource: Proto) -> None:
    if not resource.HasField("dead_letter_policy"):
        return
    policy = resource.dead_letter_policy
    policy.max_delivery_attempts = policy.max_delivery_attempts or 5
    _check(5 <= policy.max_delivery_attempts <= 100, "A dead-letter policy takes 5 to 100 delivery attempts.")


def _check_new(name: str, collection: str, known: Container[str]) -> None:
    _check(re.fullmatch(_NAME.format(collection), name), f"{name} is no name in projects/*/{collection}/*.")
    if name in known:
        raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"{name} exists already.")


def _check(holds: object, reason: str) -> None:
    if not holds:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, reason)


def _found[T](known: Mapping[str, T], name: str) -> T:
    if name not in known:
        raise Refused(grpc.StatusCode.NOT_FOUND, f"{name} does not exist.")
    return known[name]
