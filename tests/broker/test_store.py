"""What is kept: sealed, counted exactly, and a log that shows what was done to it."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.broker import audit
from client.broker.errors import AuditBroken, MasterKeyError, StoreError, UnknownArtifact
from client.broker.master import ENVIRONMENT, MasterKey
from client.broker.schema import open_engine
from client.broker.store import Asking, Store
from sealing import kbs
from tests.broker.world import MASTER, MODEL, SECRET, START, World

ASKING = Asking(session="s", simulated=True, workload=None)


def head(world: World, remembered: audit.Head | None = None) -> audit.Head:
    with world.store.transaction() as connection:
        return audit.verify(connection, remembered)


def tamper(path: Path, *statements: str) -> None:
    """What an operator with a database tool does: the triggers first."""
    engine = open_engine(path)
    with engine.begin() as connection:
        for statement in ("DROP TRIGGER audit_no_UPDATE", "DROP TRIGGER audit_no_DELETE", *statements):
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_keys_are_sealed_at_rest(world: World) -> None:
    world.store.release(MODEL, 1, ASKING, now=START)
    world.store.close()
    for file in world.path.parent.iterdir():
        content = file.read_bytes()
        assert SECRET.key not in content and SECRET.to_bytes() not in content and MASTER not in content
        assert file.stat().st_mode & 0o077 == 0


def test_another_master_key_opens_nothing(world: World) -> None:
    with pytest.raises(MasterKeyError):
        Store(world.path, MasterKey(bytes(32)))


def test_a_ciphertext_cannot_stand_in_for_another(world: World) -> None:
    other = kbs.ResourceId("default", "model", "other")
    world.store.put(other, b"cheap", by="test", now=START)
    with world.store.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE artifacts SET sealed = "
            "(SELECT sealed FROM artifacts WHERE resource = 'default/model/other') "
            "WHERE resource = 'default/model/faq'"
        )
    with pytest.raises(MasterKeyError):
        world.store.release(MODEL, 1, ASKING, now=START)
    assert world.released == 0


def test_an_older_ciphertext_cannot_come_back(world: World) -> None:
    with world.store.transaction() as connection:
        old = connection.exec_driver_sql("SELECT sealed FROM artifacts").scalar()
    world.store.put(MODEL, b"new", by="test", now=START)
    with world.store.transaction() as connection:
        connection.exec_driver_sql("UPDATE artifacts SET sealed = ?", (old,))
    with pytest.raises(MasterKeyError):
        world.store.release(MODEL, 2, ASKING, now=START)


def test_counts_are_exact_under_concurrent_releases(world: World) -> None:
    world.limit(releases=7)
    second = Store(world.path, MasterKey(MASTER))  # another process, as far as the database knows
    granted: list[bytes] = []

    def ask(store: Store) -> None:
        for _ in range(4):
            decision = store.release(MODEL, 1, ASKING, now=START)
            if decision.secret is not None:
                granted.append(decision.secret)

    threads = [
        threading.Thread(target=ask, args=(store,)) for store in (world.store, second) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    assert len(granted) == 7 == world.released
    assert [entry["count"] for entry in world.log("release")] == list(range(1, 8))
    assert len(world.log("denied")) == 32 - 7
    head(world)


def test_a_secret_that_was_replaced_meanwhile_is_not_released(world: World) -> None:
    world.store.put(MODEL, b"new", by="test", now=START)
    decision = world.store.release(MODEL, 1, ASKING, now=START)
    assert decision.secret is None and "version" in decision.refusals[0]
    assert b"new" not in repr(world.store.release(MODEL, 2, ASKING, now=START)).encode()


def test_what_is_not_there_cannot_be_revoked(world: World) -> None:
    with pytest.raises(UnknownArtifact):
        world.store.revoke(kbs.ResourceId("a", "b", "c"), by="test", now=START)


def test_the_log_is_append_only(world: World) -> None:
    for statement in ("UPDATE audit SET entry = '{}'", "DELETE FROM audit"):
        with pytest.raises(StoreError, match="append-only"), world.store.transaction() as connection:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET entry = replace(entry, 'test', 'mine') WHERE seq = 1",
        "UPDATE audit SET hash = zeroblob(32) WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 2",
        "UPDATE audit SET seq = seq + 10 WHERE seq = 3",
        "INSERT INTO audit SELECT 99, entry, hash FROM audit WHERE seq = 1",
    ],
)
def test_a_log_that_was_altered_shows_it(world: World, statement: str) -> None:
    head(world)
    tamper(world.path, statement)
    with pytest.raises(AuditBroken, match="entry"):
        head(world)


def test_a_log_that_was_cut_shows_it_to_whoever_remembers_the_head(world: World) -> None:
    remembered = head(world)
    world.store.log(START, "more")
    assert head(world, remembered).count == remembered.count + 1
    tamper(world.path, "DELETE FROM audit WHERE seq >= (SELECT max(seq) - 1 FROM audit)")
    head(world)  # the chain alone cannot tell
    with pytest.raises(AuditBroken, match="before the remembered"):
        head(world, remembered)


def test_a_log_that_was_written_anew_shows_it_too(world: World) -> None:
    remembered = head(world)
    tamper(world.path, "DELETE FROM audit")
    for _ in range(remembered.count + 1):
        world.store.log(START, "innocent")
    head(world)
    with pytest.raises(AuditBroken, match="written anew"):
        head(world, remembered)


def test_heads_are_printed_as_they_are_read() -> None:
    one = audit.Head(7, bytes(range(32)))
    assert audit.Head.parse(str(one)) == one
    for text in ("", "7", "7:xyz", "-1:" + "0" * 64):
        with pytest.raises(AuditBroken):
            audit.Head.parse(text)


@given(
    st.text(max_size=400),
    st.recursive(st.text(max_size=9), lambda x: st.lists(x) | st.dictionaries(st.text(max_size=3), x)),
)
def test_whatever_others_send_can_be_logged(text: str, value: object) -> None:
    import rfc8785

    assert rfc8785.dumps(audit._short({"a": text, "b": value}))


def test_master_keys_from_files(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = MasterKey.generate(path)
    assert path.stat().st_mode & 0o777 == 0o600
    sealed = made.seal(b"x", b"context")
    assert MasterKey.from_file(path).open(sealed, b"context") == b"x"
    with pytest.raises(MasterKeyError):
        made.open(sealed, b"other")
    with pytest.raises(MasterKeyError, match="exists"):
        MasterKey.generate(path)
    path.chmod(0o644)
    with pytest.raises(MasterKeyError, match="chmod"):
        MasterKey.from_file(path)
    with pytest.raises(MasterKeyError, match="init"):
        MasterKey.from_file(tmp_path / "none")


def test_master_keys_from_the_environment() -> None:
    key = MasterKey.from_environment({ENVIRONMENT: "ab" * 32})
    assert key.open(key.seal(b"x", b""), b"") == b"x"
    assert "ab" * 4 not in repr(key)
    for text in ("", "ab", "%" * 64, "QUJD"):
        with pytest.raises(MasterKeyError):
            MasterKey.from_environment({ENVIRONMENT: text})
    with pytest.raises(MasterKeyError, match="not set"):
        MasterKey.from_environment({})


def test_nonces_are_fresh() -> None:
    key = MasterKey(MASTER)
    assert len({key.seal(b"x", b"")[:12] for _ in range(256)}) == 256


def test_databases_of_other_makes_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_bytes(os.urandom(4096))
    with pytest.raises(StoreError):
        Store(text, MasterKey(MASTER))
    newer = tmp_path / "newer.db"
    engine = open_engine(newer)
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 9")
    engine.dispose()
    with pytest.raises(StoreError, match="version 9"):
        Store(newer, MasterKey(MASTER))


@pytest.mark.parametrize(
    "limits", ["", "{}", "[]", '{"expires":1}', "null", '{"workloads":3,"base_root":null}']
)
def test_a_row_that_was_tampered_with_stops_the_broker_and_nothing_goes_out(
    world: World, limits: str
) -> None:
    with world.store.transaction() as connection:
        connection.exec_driver_sql("UPDATE artifacts SET limits = ?", (limits,))
    with pytest.raises(StoreError, match="not what this broker wrote"):
        world.store.release(MODEL, 1, ASKING, now=START)


def test_a_new_key_never_goes_out_under_old_limits(world: World) -> None:
    """Policy, key and limits of an order are one transaction: if one does not hold, none is kept."""
    from dataclasses import replace

    from client.broker.errors import LimitsError
    from tests.broker.world import LIMITS, POLICY

    before, counted = world.store.artifacts(), head(world).count
    for toml, limits in ((POLICY, replace(LIMITS, demo=False)), (POLICY, replace(LIMITS, policy="x" * 200))):
        with pytest.raises(LimitsError):
            world.store.place(MODEL, b"new", toml, limits, by="test", now=START)
        assert world.store.artifacts() == before and head(world).count == counted
    stricter = replace(LIMITS, policy="mine", releases=1)
    assert world.store.place(MODEL, b"new", POLICY, stricter, by="test", now=START) == 2
    assert world.store.release(MODEL, 2, ASKING, now=START).secret == b"new"
    assert world.store.release(MODEL, 2, ASKING, now=START).secret is None
    head(world)
