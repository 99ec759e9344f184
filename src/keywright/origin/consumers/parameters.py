"""Owns where the API has a consumer, and how an endpoint is given that place: with the tags that guard it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from keywright.origin.consumers.access import ConsumerPath
from keywright.origin.openapi.parameters import PathAccount, PathBucket, PathConsumer, TagQuery
from keywright.origin.pipeline.query import WantedTags

CONSUMERS = "/accounts/{accountName}/key-buckets/{bucketName}/consumers"
CONSUMER = CONSUMERS + "/{consumerName}"


async def _consumer_path(
    account: PathAccount, bucket: PathBucket, consumer: PathConsumer, tags: WantedTags, tag: TagQuery = None
) -> ConsumerPath:
    return ConsumerPath(account, bucket, consumer, tags)


AskedConsumer = Annotated[ConsumerPath, Depends(_consumer_path)]
