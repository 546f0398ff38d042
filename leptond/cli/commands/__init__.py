"""The commands of leptonctl, each imported only when it is used."""
