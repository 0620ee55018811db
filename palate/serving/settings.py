"""What a service may be told: where it listens, what it accepts, how it stops. The defaults are safe on one's own machine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache


class SettingsError(ValueError):
    """The service will not start with these settings; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Settings:
    """``hosts``: further names this service answers to (Host header). ``origins``: web origins whose pages may call it (none by default).

    Sizes are bytes and counts; times are seconds. Of the calls for a page, and of all others, at most ``queue`` wait for a thread; the
    next one is told to come back (503 with Retry-After).
    """

    host: str = "127.0.0.1"
    port: int = 8000
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    workers: int = 1  # threads that draw pages: more of them share one interpreter, and cost more than they bring
    together: int = 16  # pages drawn at once, where so many calls wait
    helpers: int = 4  # threads for all other work
    queue: int = 128
    budget: float = 1.0  # the funnel's, for one page
    patience: float = 5.0  # a call that waited longer in the queue is answered 503
    max_body: int = 1_000_000
    max_query: int = 8_192
    max_depth: int = 16
    max_batch: int = 1_000
    max_k: int = 500
    max_history: int = 1_000
    max_id: int = 512  # characters of a user's, item's, event's or request's id
    drain: float = 0.3  # after SIGTERM: not ready, connections are asked to close, calls are still answered
    stop: float = 8.0  # after that, what is under way has this long to end
    access_log: bool = True
    keep_features: float = 0.01  # share of pages whose features are kept for palate skew

    def __post_init__(self) -> None:
        for name in ("workers", "together", "helpers", "queue", "max_body", "max_query", "max_depth", "max_batch", "max_k", "max_history", "max_id"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.keep_features <= 1:
            raise SettingsError(f"keep_features is a share of pages, between 0 and 1, not {self.keep_features}")
        if not 0 <= self.port < 65536:
            raise SettingsError(f"port must be between 0 and 65535, not {self.port}")
        if self.drain < 0 or self.stop <= 0 or self.drain + self.stop > 9.5:
            raise SettingsError("drain and stop must together be at most 9.5 seconds")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return is_loopback(self.host)


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether a name or address stands for this machine only. An unknown name does not."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(mapped.is_loopback if mapped else address.is_loopback)
