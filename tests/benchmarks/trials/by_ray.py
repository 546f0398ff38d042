"""A sweep by Ray Tune: `python by_ray.py SLOTS STEPS RESULTS`, with its settings for many short trials:
actors are reused (each imports torch once), nothing is logged, nothing is checkpointed. Reads the trials from
standard input, and prints when it began: Ray itself is up then."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Run the sweep."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    os.environ |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0"}
    import ray
    from ray import tune

    slots, steps, results = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    lines = [dict(word.removeprefix("--").split("=") for word in line.split()) for line in sys.stdin]
    here = str(Path(__file__).parent)

    class Trial(tune.Trainable):  # type: ignore[misc, unused-ignore]
        """One call of step is one training."""

        def setup(self, config: dict[str, str]) -> None:
            sys.path.insert(0, here)
            self.reset_config(config)

        def reset_config(self, config: dict[str, str]) -> bool:
            self.values = config["line"]
            return True

        def step(self) -> dict[str, object]:
            import trial

            loss = trial.run(steps, results, float(self.values["lr"]), int(self.values["width"]))
            return {"loss": loss, "done": True}

    # a socket's path is limited to a hundred characters or so
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as place:
        ray.init(
            num_cpus=slots,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=128 * 1024**2,
            _node_ip_address="127.0.0.1",
            _temp_dir=place,
        )
        tuner = tune.Tuner(
            Trial,
            param_space={"line": tune.grid_search(lines)},
            tune_config=tune.TuneConfig(
                reuse_actors=True, max_concurrent_trials=slots, metric="loss", mode="min"
            ),
            run_config=tune.RunConfig(
                storage_path=f"{place}/storage",
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        print(time.time_ns(), flush=True)
        tuner.fit()
        ray.shutdown()


if __name__ == "__main__":
    main()
