"""Connections to the database."""

from headrace_common.db import Database


def test_a_vanished_host_is_noticed_in_seconds(database: Database) -> None:
    with database.begin() as session:
        driver = session.connection().connection.driver_connection
        assert driver is not None
        used = driver.info.get_parameters()
    noticed_idle = int(used["keepalives_idle"]) + int(used["keepalives_interval"]) * int(
        used["keepalives_count"]
    )
    assert noticed_idle <= 30
    assert int(used["tcp_user_timeout"]) <= 30_000
