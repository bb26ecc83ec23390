"""Dead letters of every kind in one place: collected, shown, replayed, dropped (O1)."""
