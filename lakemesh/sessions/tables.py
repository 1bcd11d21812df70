"""The sessions' tables in PostgreSQL."""

from lakemesh.lakehouse.database import Database
from lakemesh.lakehouse.room_tables import RoomTables
from lakemesh.sessions import migrations


def session_tables(database: Database) -> RoomTables:
    return RoomTables(database, "sessions", migrations)
