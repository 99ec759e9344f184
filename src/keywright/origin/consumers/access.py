"""Owns where a consumer is, and the question that every rule of one begins with: is it there for this actor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keywright.domain.models import Bucket, Consumer
from keywright.domain.names import CONSUMER_NAME
from keywright.domain.permissions import Access
from keywright.domain.problems import NotFound
from keywright.domain.text import is_whole
from keywright.origin.buckets.access import get_bucket
from keywright.origin.consumers import store as consumer_rows
from keywright.origin.pipeline.unit_of_work import UnitOfWork

Tags = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ConsumerPath:
    """Where a consumer is: account, bucket, name; `tags` guard it, and one that has others is not found."""

    account_name: str
    bucket_name: str
    consumer_name: str
    tags: Tags = field(default_factory=dict)


async def get_consumer(
    work: UnitOfWork, path: ConsumerPath, need: Access, *, is_for_update: bool = False
) -> tuple[Bucket, Consumer]:
    """Raises NotFound (also where a tag guard does not match) and Forbidden."""
    _, bucket = await get_bucket(work, path.account_name, path.bucket_name, need)
    consumer = None
    # What no consumer can be called is not looked for.
    if is_whole(CONSUMER_NAME, path.consumer_name):
        consumer = await consumer_rows.find(
            work.tx, bucket, path.consumer_name, tags=path.tags, is_for_update=is_for_update
        )
    if consumer is None:
        raise NotFound("The bucket has no such consumer" + (", or it has other tags." if path.tags else "."))
    work.audit_draft.concerns("consumer", consumer.id, name=consumer.name, bucket=bucket.name)
    return bucket, consumer
