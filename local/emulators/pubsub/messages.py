"""Plain protobuf classes of Pub/Sub's API: proto-plus costs more than all the rest of a delivery.

They are made when the client library loads, so that no type checker knows their fields.
"""

from typing import Any

import grpc
from google.pubsub_v1 import types

type Proto = Any
type Handler = grpc.RpcMethodHandler[Proto, Proto]
type Context = grpc.aio.ServicerContext[Proto, Proto]

Message: Proto = types.PubsubMessage.pb()
Subscription: Proto = types.Subscription.pb()
