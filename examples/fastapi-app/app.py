"""A protected API: it greets the consumer whose key a request shows, and has a route for those on the gold plan.

It reads the replica of the Keywright on the same machine; see README.md for the other two ways.
"""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Security

from keywright.policy import SharedReplica
from keywright.policy.fastapi import ApiKeyPolicy, KeyRefused, User, answer_problem

source = SharedReplica(os.environ.get("KEYWRIGHT_DATA_DIR", "keywright-data"))
policy = ApiKeyPolicy(source, bucket_name=os.environ.get("BUCKET_NAME", "my-project-production"))

app = FastAPI(title="A protected API", lifespan=policy.lifespan)
app.add_exception_handler(KeyRefused, answer_problem)

Consumer = Annotated[User, Security(policy)]


async def on_gold_plan(user: Consumer) -> User:
    if user.data.get("plan") != "gold":
        raise HTTPException(403, "This is for consumers on the gold plan.")
    return user


@app.get("/hello")
async def hello(user: Consumer) -> dict[str, str]:
    return {"message": f"Hello, {user.sub}!"}


@app.get("/reports")
async def reports(user: Annotated[User, Depends(on_gold_plan)]) -> dict[str, str]:
    return {"message": f"Reports for {user.sub}"}


@app.get("/health")
async def health() -> dict[str, bool]:
    """Open to all; not ready means that every key gets a 503."""
    return {"ready": source.is_ready}
