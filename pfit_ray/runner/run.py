"""A run from beginning to end: what is finished stays, the rest is done in order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from pfit_ray import storage
from pfit_ray.cluster import pipeline
from pfit_ray.cluster.placement import Placement, place
from pfit_ray.cluster.preflight import check_nodes
from pfit_ray.cluster.resources import Cluster
from pfit_ray.cluster.session import ray_session
from pfit_ray.config import PASSES, Pass, RunConfig
from pfit_ray.config.data import ImageSetConfig
from pfit_ray.config.stored import stored_yaml
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.listing import list_images
from pfit_ray.data.sources.notes import Notes
from pfit_ray.errors import RunFailedError, UserError, last_line
from pfit_ray.results.contact_sheet import write_sheets
from pfit_ray.results.report import write_report
from pfit_ray.rundir.directory import IMAGE_SET, PROGRESS_FILE, Network, RunDirectory
from pfit_ray.rundir.environment import check_packages, describe_environment
from pfit_ray.rundir.finished import Ledger
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.rundir.pace import describe_records, read_metrics
from pfit_ray.rundir.provenance import record_missing_weights, record_weights
from pfit_ray.runner import fingerprint, scoring_step
from pfit_ray.runner.lock import RunLock
from pfit_ray.runner.progress import Progress, State
from pfit_ray.runner.steps import NEEDS, Planner, Step, networks_of
from pfit_ray.storage.signals import Interrupts, interrupts
from pfit_ray.tasks.passes import plan_pass
from pfit_ray.train.provide import check_networks, check_reviews, check_training_resources, provide_network


@dataclass
class Outcome:
    """The result of a run: `worked` is False if everything was finished before.

    `counts` and `reasons` hold, by pass, the good and the failed images, and the failed ones by reason.
    """

    run: RunDirectory
    worked: bool = False
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


class Runner:
    """Does the steps of one config in one run directory.

    Args:
        config: the run's config.
        progress: shows what it does.
        retry_failed: in finished passes, try only the failed images again.
        force: take the run directory over from another run, see `RunLock`.
    """

    def __init__(self, config: RunConfig, progress: Progress, retry_failed: bool = False, force: bool = False) -> None:
        self.run_directory = RunDirectory(storage.absolute(config.output))
        self.config = config = fingerprint.continued(self.run_directory, config)
        self.retry_failed = retry_failed
        self.progress = progress
        self.ledger = Ledger(self.run_directory)
        progress.publish = self._publish
        self.planner = Planner(config, self.run_directory, self.ledger, retry_failed)
        self.interrupts = Interrupts()
        self.lock = RunLock(self.run_directory, progress.say, force)

    def forget(self, word: str) -> None:
        """Forget a step and all later ones (`REDO_FROM`), unless a mistake would stop them from being computed again.

        Raises:
            UserError: a mistake that shows before any work, or another run is at work; nothing is forgotten.
        """
        self._check(fingerprint.networks_from(word, networks_of(self.planner.steps())))
        with self.lock.held():
            fingerprint.forget(self.run_directory, word)
        self.ledger.clear()

    def run(self, address: str | None = None, verbose: bool = False) -> Outcome:
        """Do what is not finished.

        Args:
            address: see `ray_session`.
            verbose: keep Ray's messages.

        Returns:
            Counts per pass and scores.

        Raises:
            UserError: a mistake in config or data, or another run is at work there, in one sentence.
            RunFailedError: see `max_failed_fraction`; another run has taken over.
        """
        run, config = self.run_directory, self.config
        fingerprint.check_fresh(run, config)
        outcome = Outcome(run)
        if not self.retry_failed:
            for name in config.passes:
                if self.ledger.faulty(name):
                    self._check_failures(name, run.read_json("manifest", f"{IMAGE_SET[name]}.json")["images"])
        if todo := [step for step in self.planner.steps() if step.todo]:
            self._check(networks_of(todo))
            with self.lock.held():
                if self.lock.contended:
                    self.ledger.clear()
                    fingerprint.check_fresh(run, config)
                todo = [step for step in self.planner.steps() if step.todo]
                if todo:
                    outcome.worked = True
                    self._do_all(todo, address, verbose)
        outcome.counts = {name: self.ledger.counts(name) for name in PASSES if name in config.passes}
        outcome.reasons = {name: self.ledger.reasons(name) for name in outcome.counts}
        outcome.metrics = run.read_json("evaluation.json") or {}
        return outcome

    def _do_all(self, todo: Sequence[Step], address: str | None, verbose: bool) -> None:
        run, config = self.run_directory, self.config
        with interrupts() as self.interrupts, self._published():
            preload = pipeline.warm_up if any(step.kind == "pass" for step in todo) else None
            with ray_session(address, config.resources, verbose, preload) as cluster:
                self.interrupts.handle()
                self.progress.say(f"Ray: {cluster}")
                placement = preflight(config, cluster, networks_of(todo))
                check_nodes(config, run.root, on_gpus=placement.network_gpus > 0)
                # Listing a bucket may take hours: not before the cluster is known to suffice. On this machine workers
                # import meanwhile.
                self._prepare(todo)
                self._work(todo, placement)

    def _go_on(self) -> None:
        """Raise what ends the run; called between images and shards."""
        self.interrupts.check()
        self.lock.check()

    def _check(self, networks: list[Network]) -> None:
        check_packages(self.config)
        check_networks(self.config, networks)
        check_reviews(self.config, self.run_directory, networks)

    def _publish(self, state: State) -> None:
        self.run_directory.write_json(state, PROGRESS_FILE)

    def _prepare(self, todo: Sequence[Step]) -> None:
        """Do what needs no workers first, because it shows mistakes early."""
        storage.write_bytes(self.run_directory.url("config.yaml"), stored_yaml(self.config))
        self.run_directory.write_json(describe_environment(self.config), "environment.json")
        for step in todo:
            if step.kind == "manifest":
                self._list(step.name)
            elif self._is_given(step):
                self._provide(cast(Network, step.name))

    def _work(self, todo: Sequence[Step], placement: Placement) -> None:
        if placement.warning:
            self.progress.say(placement.warning)
        for step in todo:
            self._go_on()
            self._do(step, placement)

    def _is_given(self, step: Step) -> bool:
        """Whether a step takes a network instead of training it; it comes first, so that a misfit shows early."""
        return step.kind == "network" and getattr(self.config, step.name).source != "train"

    def _do(self, step: Step, placement: Placement) -> None:
        if step.kind == "network" and not self._is_given(step):
            self._provide(cast(Network, step.name))
        elif step.kind == "pass":
            self._pass(cast(Pass, step.name), placement)
        elif step.kind == "report":
            for name in self.config.passes:  # a run that was killed has not recorded its last training, nor tidied up
                if network := self.planner.network_of(name):
                    record_missing_weights(self.run_directory, self.config, network)
                self.ledger.tidy(name)
            metrics = scoring_step.evaluate_run(self.config, self.run_directory, self.progress)
            self.run_directory.write_json(metrics, "evaluation.json")
            for note in metrics.get("notes", ()):
                self.progress.say(f"evaluation: {note}")
            self._look("report", lambda: write_report(self.config, self.run_directory, metrics=metrics))
            self._look("contact sheets", self._sheets)
            self.run_directory.write_json(self.planner.report_fields(), "steps", "report.json")

    def _look(self, what: str, draw: Callable[[], object]) -> None:
        """Draw a page or sheets of a run that has its labels and scores; a failure is no more than a warning."""
        try:
            draw()
        except Exception as error:
            self.progress.say(
                f"warning: {what} could not be drawn ({last_line(error)}); labels and scores are complete, and "
                f"pfit-ray report {self.run_directory.root} or pfit-ray show tries it again"
            )

    def _sheets(self) -> None:
        for problem in write_sheets(self.config, self.run_directory, self.config.sheets):
            self.progress.say(f"warning: {problem}")

    def _list(self, image_set: str) -> None:
        with self._begun(f"manifest-{image_set}"), self.progress.listing(image_set) as listed:
            notes = Notes()
            items = listed.each(self.images(image_set, notes))
            summary = write_manifest(self.run_directory, image_set, items, self.config.shard_size, notes)
        self.progress.say(f"{image_set}: {summary['images']} images in {summary['shards']} shards")
        for note in notes:
            self.progress.say(f"{image_set}: {note}")

    def images(self, image_set: str, notes: Notes) -> Iterator[Item]:
        """The images of one set; masks only on those that are scored. `notes`: see `list_images`."""
        data = self.config.data
        chosen: ImageSetConfig = getattr(data, image_set) or data.train
        scored: set[str] | None = None
        if image_set == "train" and data.score is not None:
            scored = {item.image_id for item in list_images(data, ImageSetConfig(split=data.score))}
        for item in list_images(data, chosen, notes):
            self._go_on()
            yield item if scored is None or item.image_id in scored else replace(item, mask_uri=None)

    def _provide(self, network: Network) -> None:
        self._outdate_report()
        with self._begun(network), self.progress.watching(network, lambda: self._trained(network)):
            told = provide_network(self.config, self.run_directory, network)
            record_weights(self.run_directory, self.config, network)
        numbers = ", ".join(f"{name} {_short(value)}" for name, value in told.items() if name != "source")
        how = {"train": "trained", "weights": "loaded", "zero_shot": "made from ImageNet rows"}
        self.progress.say(f"{network}: {how[told['source']]}{': ' + numbers if numbers else ''}")

    def _trained(self, network: Network) -> str:
        """How far the training of a network is; nothing before its first records."""
        records = read_metrics(self.run_directory.url("train", network))
        return describe_records(records) if records else ""

    @contextmanager
    def _published(self) -> Iterator[None]:
        """Remove the published progress at the end; only a killed run leaves it behind."""
        try:
            yield
        finally:
            self.progress.aside(lambda: storage.remove(self.run_directory.url(PROGRESS_FILE)))

    @contextmanager
    def _begun(self, step: str) -> Iterator[None]:
        fingerprint.begin_step(self.run_directory, self.config, step)
        try:
            yield
        except UserError:
            fingerprint.take_back(self.run_directory, step)
            raise

    def _pass(self, name: Pass, placement: Placement) -> None:
        run, config, ledger = self.run_directory, self.config, self.ledger
        fingerprint.begin_step(run, config, name)
        self._outdate_report()
        manifest = run.read_json("manifest", f"{IMAGE_SET[name]}.json")
        if (upstream := NEEDS[name]) is not None:
            ledger.compact(upstream)  # its markers do not change any more, and workers need no requests for them
        ledger.compact(name)
        finished = ledger.shards(name)
        shards = np.setdiff1d(np.arange(manifest["shards"]), finished.numbers()).tolist()
        plan = plan_pass(name, config, run)
        again, again_plan = self.planner.retry_shards(finished), replace(plan, retry=True)
        if shards:
            with self.progress.images(name, manifest["images"], sum(ledger.counts(name))) as progress:
                for result in pipeline.run_pass(plan, config, run, shards, placement, self.progress.say):
                    progress.add(result["ok"], result["failed"], result)
                    ledger.add(name, result)
                    self._check_failures(name, manifest["images"])
                    self._go_on()
        if again:
            failed_before = {shard: finished[shard].failed for shard in again}
            before = sum(failed_before.values())
            with self.progress.images(f"{name}, failed images again", before, 0) as progress:
                for result in pipeline.run_pass(again_plan, config, run, again, placement, self.progress.say):
                    progress.add(failed_before[result["shard"]] - result["failed"], result["failed"], result)
                    ledger.add(name, result)
                    self._go_on()
        if lost := ledger.tidy(name):
            ledger.drop(name, lost)
            raise RunFailedError(
                f"pass {name}: files of {len(lost)} finished shard(s) are gone, of shard {lost[0]} first; the same "
                "command does them again"
            )
        if len(kinds := ledger.processors(name)) > 1:
            told = ", ".join(f"{kind}: {count} shards" for kind, count in kinds.items())
            self.progress.say(
                f"warning: pass {name} was computed on processors of several kinds ({told}); the last digits of its "
                "results may depend on the processor, see docs/reliability.md"
            )
        ok, failed = ledger.counts(name)
        if ok + failed != manifest["images"]:
            raise RuntimeError(
                f"pass {name}: {ok} ok + {failed} failed images are not the manifest's {manifest['images']}"
            )

    def _check_failures(self, name: Pass, images: int) -> None:
        failed = self.ledger.faulty(name)
        if failed > self.config.max_failed_fraction * images:
            raise RunFailedError(
                f"pass {name} stopped: {failed} of {images} images failed, more than max_failed_fraction "
                f"{self.config.max_failed_fraction:g} allows; {self.run_directory.url(name, 'failures')} says why; "
                f"raise the fraction, or repair the images and add --redo {name}"
            )

    def _outdate_report(self) -> None:
        storage.remove(self.run_directory.url("steps", "report.json"))
        storage.remove(self.run_directory.url("evaluation.json"))


def preflight(config: RunConfig, cluster: Cluster, networks: list[Network]) -> Placement:
    """Check that a cluster has room for the least that a run needs, now or once it has grown.

    Args:
        config: the run's config.
        cluster: its nodes, and those that it may add.
        networks: the networks that are still to be provided.

    Raises:
        UserError: names what does not fit, and what there is.
    """
    placement = place(config, cluster)
    check_training_resources(config, networks, cluster)
    return placement


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
