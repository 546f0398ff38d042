"""The torch side: what a training script may use or copy. Nothing here is imported by the daemon."""
