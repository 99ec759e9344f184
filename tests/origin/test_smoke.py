"""A consumer and a key, on both engines."""

from support.service import Service


async def test_a_key_works_from_the_next_request_and_stops_with_its_revocation(service: Service) -> None:
    consumer = await service.new_consumer()
    key = await service.new_key(consumer["name"])
    assert await service.verdict(key["key"]) == "VALID"
    await service.call("DELETE", f"{service.consumers_url}/{consumer['name']}/keys/{key['id']}", expect=204)
    assert await service.verdict(key["key"]) == "UNKNOWN"
