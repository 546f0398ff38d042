"""The file itself: connections, migrations, backups, rows and events."""
