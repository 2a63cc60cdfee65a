"""The script that `ray submit` ships to a cluster: the command line, on the cluster that it runs on.

    ray submit cluster.yaml cluster/submit.py run configs/corpus.yaml output=s3://bucket/run

The package must be installed on all nodes. Arguments are those of `pfit-ray`.
"""

import os

from pfit_ray.cli import main

if __name__ == "__main__":
    os.environ.setdefault("RAY_ADDRESS", "auto")
    main()
