"""The reference page of the Developer API."""

from fastapi import APIRouter

router = APIRouter()
