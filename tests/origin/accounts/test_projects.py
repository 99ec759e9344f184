"""Rules of projects and their buckets, through the API on both engines."""

from __future__ import annotations

from support.service import Service


class TestProjects:
    async def test_a_project_in_use_is_kept(self, service: Service) -> None:
        consumer = await service.new_consumer()
        url = f"{service.account_url}/projects/my-project"

        answer = await service.call("DELETE", url, expect=409)

        assert service.bucket in answer["detail"]
        assert len((await service.call("GET", url))["environments"]) == 3
        await service.call("DELETE", f"{service.consumers_url}/{consumer['name']}", expect=204)
        await service.call("DELETE", url, expect=204)
        await service.call("GET", url, expect=404)
        await service.call("GET", service.bucket_url, expect=404)
        assert (await service.call("GET", f"{service.account_url}/key-buckets"))["total"] == 0

    async def test_a_bucket_name_that_is_taken_is_made_longer(self, service: Service) -> None:
        await service.call("POST", f"{service.account_url}/key-buckets", json={"name": "shop-production"})
        made = await service.call("POST", f"{service.account_url}/projects", json={"name": "shop"})
        assert list(made["environments"]) == ["production", "preview", "working-copy"]
        assert made["environments"]["preview"] == "shop-preview"
        assert made["environments"]["production"].startswith("shop-production-")
        await service.call("POST", f"{service.account_url}/projects", json={"name": "shop"}, expect=409)
        listed = await service.call("GET", f"{service.account_url}/projects")
        assert [project["name"] for project in listed["data"]] == ["shop", "my-project"]

    async def test_a_bucket_that_was_deleted_leaves_its_project(self, service: Service) -> None:
        await service.call("DELETE", service.bucket_url, expect=204)
        project = await service.call("GET", f"{service.account_url}/projects/my-project")
        assert list(project["environments"]) == ["preview", "working-copy"]
        await service.call("DELETE", f"{service.account_url}/projects/my-project", expect=204)
