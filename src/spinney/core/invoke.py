"""One call of one function: a warm sandbox when there is one, and a Reply whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from spinney.core.index import Target
from spinney.core.pool import Pool
from spinney.core.record import Records
from spinney.errors import Busy, Error, Unsupported
from spinney.model import Call, Outcome, Reply
from spinney.ports import Runtime, Services

LAST_LINES = 50
RETRY_S = 1.0


class Invoker:
    """Runs calls. The only way from a dialect to a sandbox."""

    def __init__(
        self,
        pool: Pool,
        records: Records,
        runtimes: Mapping[str, Runtime],
        services: Mapping[str, Callable[[Target], Services]],
    ) -> None:
        """``services``: by the name of a dialect, what calls of its functions may ask of the host; none for those not named."""
        self._pool = pool
        self._records = records
        self._runtimes = runtimes
        self._services = services
        self._loop = asyncio.get_running_loop()

    async def invoke(self, target: Target, call: Call, trigger: str) -> Reply:
        """Run ``call`` on ``target`` and say how it ended; the caller records it (``Records.end``) before it answers anyone.

        Failures are Replies. Only cancellation raises, and then the sandbox is gone and nothing is recorded.
        """
        loop, pool = self._loop, self._pool
        services_of = self._services.get(target.function.dialect)
        services = services_of(target) if services_of else None
        slot = None
        try:
            slot = pool.take(target.id) or await pool.acquire(target)
            while True:
                self._records.begin(target, call, trigger)
                reply = await slot.sandbox.call(call, loop.time() + call.limit_s, services)
                if reply.outcome is not Outcome.NOT_RUN:
                    break
                (pool.leave if reply.reusable else pool.drop)(slot)
                slot = None
                slot = await pool.acquire(target, again=True)
        except Error as error:
            if slot is not None:
                pool.drop(slot)
            return _not_run(error)
        except BaseException:
            self._records.abandon(call.id)
            if slot is not None:
                pool.drop(slot)
            raise
        if reply.reusable:
            pool.give(slot, reply.duration_s)
        else:
            pool.drop(slot)
            if reply.outcome is Outcome.EXITED and reply.exit_code is not None:
                self._explain(target, reply, reply.exit_code)
        return reply

    async def invoke_patiently(self, target: Target, call: Call, trigger: str) -> Reply:
        """As ``invoke``, for a call that nobody waits for: when there is no room for it, it runs later."""
        while True:
            reply = await self.invoke(target, call, trigger)
            if reply.outcome is not Outcome.BUSY:
                return reply
            await asyncio.sleep(RETRY_S)

    def _explain(self, target: Target, reply: Reply, exit_code: int) -> None:
        """Let the language say what its own way of dying means."""
        lines = [line.text for line in reply.logs[-LAST_LINES:]]
        reply.outcome = self._runtimes[target.version.runtime].explain(exit_code, lines)


def _not_run(error: Error) -> Reply:
    if isinstance(error, Busy):
        return Reply(Outcome.BUSY, message=error.message)
    if isinstance(error, Unsupported):
        return Reply(Outcome.UNAVAILABLE, message=error.message)
    return Reply(Outcome.NOT_STARTED, message=error.message)
