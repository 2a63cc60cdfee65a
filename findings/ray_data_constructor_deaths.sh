#!/usr/bin/env bash
# Ray Data 2.60.0: DataContext.max_consecutive_actor_init_deaths is described as the number of actors that may die while
# they are constructed, by a crash of their process such as one for lack of memory as well as by an exception; 0, the
# default, "fails the job on the first death". An actor whose process is ended from outside (SIGKILL, what the kernel does
# for lack of memory) is never counted: Ray restarts it, twice here, and the job ends well. Only an exception counts.
# Seen: killed twice, budget 0: [0, 1, 2, 3]; raised once, budget 0: ActorDiedError; raised twice, budget 2: [0, 1, 2, 3].
# It hurts whoever limits by it how often a constructor that takes too much memory is tried: it is tried without end. A
# test of the budget that kills its actor passes without any budget; ours raises too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/deaths.py" <<'PYTHON'
import os
import signal
import sys
from pathlib import Path

import ray
from ray.data import ActorPoolStrategy

way, deaths, budget, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
folder.mkdir()


class Same:
    def __init__(self):
        tries = len(list(folder.iterdir()))
        (folder / str(tries)).touch()
        if tries < deaths:
            if way == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("the storage does not answer")

    def __call__(self, row):
        return row


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
rows = ray.data.range(4)
rows.context.max_consecutive_actor_init_deaths = budget
try:
    result = sorted(row["id"] for row in rows.map(Same, compute=ActorPoolStrategy(size=1)).take_all())
except ray.exceptions.RayError as error:
    result = type(error).__name__
folder.joinpath("result").write_text(str(result))  # Ray writes to the standard output, too
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "ray[data]==2.60.0"
seen() {
  local expected=$1
  shift
  "$folder/venv/bin/python" "$folder/deaths.py" "$@" "$folder/$1-$2-$3" >/dev/null 2>&1
  said=$(cat "$folder/$1-$2-$3/result")
  echo "$1 $2 time(s), budget $3: $said"
  test "$said" = "$expected"
}
seen "[0, 1, 2, 3]" killed 2 0
seen ActorDiedError raised 1 0
seen "[0, 1, 2, 3]" raised 2 2
