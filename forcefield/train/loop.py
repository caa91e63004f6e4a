"""The training loop: resumable at any moment, in one process or several, its length in steps or minutes of work."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_ema import ExponentialMovingAverage

from forcefield.compiled import CompiledPotential
from forcefield.data.batches import load_batch, plan_batches
from forcefield.derivatives import evaluate
from forcefield.train.checkpoint import CHECKPOINT, latest_checkpoint, save_checkpoint
from forcefield.train.config import TrainConfig
from forcefield.train.config_file import check_hyperparameters
from forcefield.train.distributed import Group, process_group, resolve_device
from forcefield.train.element_tables import element_tables
from forcefield.train.health import idle_units, warning_of
from forcefield.train.hessian import HessianTask
from forcefield.train.interruption import Interruption, to_the_end
from forcefield.train.logs import Logs, Silent, Watcher
from forcefield.train.loss import Term, differences, labelled, total_loss
from forcefield.train.metrics import collect, summarise
from forcefield.train.optimizer import Optimizers
from forcefield.train.precision import in_precision, matrix_products
from forcefield.train.resume import restore, state_of
from forcefield.train.schedule import learning_rate, loss_terms
from forcefield.train.start import build_potential, network_cutoff, settled
from forcefield.train.stores import check_labels, check_stores, open_store

Errors = dict[str, dict[str, float]]


class Run:
    """A training run with everything that a resumed one must take up again.

    Args:
        config: the run.
        group: processes that share it.
        watcher: told what happens (in process 0).

    Raises:
        ValueError: the data does not fit the network, or there is a checkpoint that cannot be continued.
    """

    def __init__(self, config: TrainConfig, *, group: Group | None = None, watcher: Watcher | None = None) -> None:
        self.group = group or Group()
        self.watcher = watcher if watcher is not None and self.group.is_root else Silent()
        check_hyperparameters(config)
        config = settled(config).model_copy(update={"device": resolve_device(config.device)})
        self.config = config
        self._open_data()
        self.potential = build_potential(config, self.train)
        check_stores(self.train, self.validation, self.potential.cutoff, self.potential.elements)
        terms = loss_terms(config, 0.0) | loss_terms(config, 1.0)
        check_labels(self.train, [name for name, term in terms.items() if term.weight > 0 and name != "hessian"])
        self.compiled = CompiledPotential(self.potential, training=True) if config.compile else None
        self.hessian = self._hessian_task()
        self.parameters = [p for p in self.potential.parameters() if p.requires_grad]
        self.optimizer = Optimizers(
            self.potential,
            config.optimizer,
            config.learning_rate,
            config.weight_decay,
            scale_by_inputs=config.scale_by_inputs,
            shared_rate=config.shared_rate,
        )
        self.ema = ExponentialMovingAverage(self.parameters, decay=config.ema_decay)
        self.step, self.epoch, self.position = 0, 0, 0
        self.seconds, self.atoms_seen = 0.0, 0
        self.skipped, self.skipped_in_a_row = 0, 0
        self.stopped, self.warned_of_idle_units = False, False
        self.best: dict[str, Any] | None = None
        self.result: Errors | None = None
        state = latest_checkpoint(config.output, self.watcher.note) if self.group.is_root else None
        state = self.group.from_root(state)
        if state is not None:
            restore(self, state)

    def _open_data(self) -> None:
        config, cutoff = self.config, network_cutoff(self.config)
        config.output.mkdir(parents=True, exist_ok=True)
        self.train, self.validation = (
            open_store(getattr(config, name), name, config.output, cutoff, self.group, tell=self.watcher.note)
            for name in ("train", "validation")
        )

    def _hessian_task(self) -> HessianTask | None:
        settings = self.config.hessian
        if settings is None:
            return None
        cutoff, elements = self.potential.cutoff, self.potential.elements
        return HessianTask(settings, cutoff=cutoff, elements=elements, slots=self.config.slots, seed=self.config.seed)

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        if self.stopped:
            return 1.0
        if self.config.minutes is not None:
            return min(self.seconds / (60 * self.config.minutes), 1.0)
        assert self.config.steps is not None
        return min(self.step / self.config.steps, 1.0)

    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return learning_rate(self.config, self.step, self.progress)

    def batches(self) -> Iterator[NDArray[np.int64]]:
        """Batches without end, from where the run stands; the same in every process."""
        while True:
            plan = plan_batches(self.train, self.config.slots, seed=self.config.seed + 1000 * self.epoch)
            while self.position < len(plan):
                self.position += 1
                yield plan[self.position - 1]
            self.epoch, self.position = self.epoch + 1, 0

    def update(self, frames: NDArray[np.int64]) -> dict[str, float]:
        """One step of the optimiser on a batch, of which each process takes its part.

        A step whose gradient is not finite is counted and changes nothing.

        Returns:
            The loss and the mean absolute errors of the whole batch, and the norm of the gradient before clipping.

        Raises:
            ValueError: too many steps in a row had a gradient that is not finite.
        """
        config = self.config
        self.optimizer.set_learning_rate(self.learning_rate())
        self.optimizer.zero_grad()
        with matrix_products(config.dtype):
            means = self._gradients(frames, loss_terms(config, self.progress))
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.gradient_clip or math.inf)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.ema.update()
            self.skipped_in_a_row = 0
        else:
            self.skipped, self.skipped_in_a_row = self.skipped + 1, self.skipped_in_a_row + 1
        self.step += 1
        self.atoms_seen += int(self.train.arrays["n_atoms"][frames].sum())
        if self.skipped_in_a_row >= config.most_skipped:
            raise ValueError(
                f"the gradient was not finite in {self.skipped_in_a_row} steps in a row, up to step {self.step}; the "
                f"last checkpoint in {config.output} is from before or skipped them too. Lower learning_rate or "
                "gradient_clip, use dtype float64, or look for broken labels in the training data"
            )
        return {**means, "norm": float(norm)}

    def _gradients(self, frames: NDArray[np.int64], terms: dict[str, Term]) -> dict[str, float]:
        """Gradients of the loss of the whole batch: means are over its labelled entries in all processes."""
        errors = self._errors(frames)
        known = {name: labelled(error) for name, error in errors.items()}
        counts = self._sums([known[name].numel() if name in known else 0 for name in terms])
        counted = dict(zip(terms, counts, strict=True))
        loss = total_loss(errors, terms, counted)
        if loss.requires_grad:
            loss.backward()
        self.group.sum_gradients(self.parameters)
        sizes = [float(known[name].detach().abs().sum()) if name in known else 0.0 for name in terms]
        total, *sums = self._sums([float(loss.detach()), *sizes])
        return {"loss": total, **{name: size / n for (name, n), size in zip(counted.items(), sums, strict=True) if n}}

    def _errors(self, frames: NDArray[np.int64]) -> dict[str, Tensor]:
        """Errors of this process's part of the batch, and of one of Hessian products where it is due."""
        potential, errors = in_precision(self.potential, self.config.dtype), {}
        mine = self.group.share(frames, self.train.arrays["n_edges"])
        if len(mine):
            graph, labels = load_batch(self.train, mine)
            graph, labels = graph.to(self.config.device), labels.to(self.config.device)
            if self.potential.cutoff < self.train.cutoff:
                graph = graph.within(self.potential.cutoff)
            prediction = evaluate(potential, graph, training=True, compiled=self.compiled)
            errors = differences(graph, prediction, labels)
        if self.hessian is not None and self.step % self.hessian.settings.every == 0:
            samples = self.hessian.batch(self.step // self.hessian.settings.every)
            samples = self.group.share(samples, self.hessian.structure_cost())
            if len(samples):
                errors["hessian"] = self.hessian.differences(potential, samples, self.config.device)
        return errors

    def _sums(self, values: list[float]) -> list[float]:
        return self.group.sum(torch.tensor(values, dtype=torch.float64, device=self.config.device)).tolist()

    def validate(self, n_batches: int | None = None) -> Errors:
        """Errors of the averaged weights on the validation store (the first ``n_batches`` of a fixed plan)."""
        plan = plan_batches(self.validation, 4 * self.config.slots, seed=0)[:n_batches]
        potential, cutoff = in_precision(self.potential, self.config.dtype), self.potential.cutoff
        mine = plan[self.group.rank :: self.group.size]
        with self.ema.average_parameters(), matrix_products(self.config.dtype):
            errors = collect(potential, self.validation, mine, device=self.config.device, cutoff=cutoff)
        return summarise(self.group.gather(errors))

    def idle_share(self) -> float:
        """Share of units that the last gradients have not reached, the mean over matrices; a warning if it is large."""
        held = element_tables(self.potential) if self.config.trained_elements else set()  # most of their rows are held
        named = ((name, p) for name, p in self.potential.named_parameters() if name not in held)
        shares = idle_units((name, self.optimizer.mean_gradient(p)) for name, p in named)
        warning = warning_of(shares)
        if warning and not self.warned_of_idle_units:
            self.watcher.note(f"warning: {warning}")
            self.warned_of_idle_units = True
        return float(np.mean(list(shares.values()))) if shares else 0.0

    def judge(self, errors: dict[str, float]) -> float:
        """Score of a validation: mean absolute errors times the weights of the last phase; keeps the best weights."""
        terms = loss_terms(self.config, 1.0)
        score = sum(term.weight * errors.get(f"{name}_mae", 0.0) for name, term in terms.items())
        if self.config.patience is not None:
            if self.best is None or score < self.best["score"]:
                weights = [values.detach().cpu().clone() for values in self.ema.shadow_params]
                self.best = {"score": score, "step": self.step, "stale": 0, "weights": weights}
            else:
                self.best["stale"] += 1
            self.stopped = self.best["stale"] >= self.config.patience
        return score

    def take_best(self) -> None:
        """Go back to the best averaged weights, where the run kept them."""
        if self.best is not None:
            for values, best in zip(self.ema.shadow_params, self.best["weights"], strict=True):
                values.copy_(best)

    def save(self) -> None:
        """Write the checkpoint (process 0).

        Raises:
            ValueError: it cannot be written; the one before is unharmed.
        """
        if self.group.is_root:
            save_checkpoint(self.config.output / CHECKPOINT, state_of(self))

    def counters(self) -> dict[str, Any]:
        """What every line of the log begins with."""
        return {
            **{"step": self.step, "epoch": self.epoch, "minutes": round(self.seconds / 60, 3)},
            **{"atoms_seen": self.atoms_seen, "lr": self.learning_rate(), "skipped": self.skipped},
        }


def train(config: TrainConfig, *, watcher: Watcher | None = None) -> Run:
    """Train until the run is finished; called again after a kill it goes on from the last checkpoint.

    Args:
        config: the run.
        watcher: told what happens.

    Raises:
        ValueError: configuration and data do not fit together, a checkpoint cannot be written, or training diverges.
    """
    with process_group(config.device) as (group, device):
        run = Run(config.model_copy(update={"device": device}), group=group, watcher=watcher)
        work(run)
    return run


def work(run: Run) -> None:
    """Do what is left of a run, then validate it on the whole validation store."""
    logs = None
    if run.group.is_root:
        logs = Logs(run.config.output, run.step, tensorboard=run.config.tensorboard, watcher=run.watcher)
    try:
        to_the_end(run, lambda interruption: _steps(run, logs, interruption), enabled=run.group.size == 1)
        run.take_best()
        run.result = run.validate()
        if logs is not None:
            logs.write("result", {**run.counters(), **run.result["all"]})
            text = json.dumps(run.result, indent=1)
            (run.config.output / "validation.json").write_text(text, encoding="utf-8")
    finally:
        if logs is not None:
            logs.close()


def _steps(run: Run, logs: Logs | None, interruption: Interruption) -> None:
    """Steps, log lines, checkpoints and quick validations, up to the end of the run or Ctrl-C."""
    config = run.config
    clock = time.process_time if config.clock == "cpu" else time.perf_counter
    collected: list[dict[str, float]] = []
    next_save = run.seconds + 60 * config.checkpoint_minutes
    batches = run.batches()
    while run.progress < 1 and not interruption.asked:
        start = clock()
        collected.append(run.update(next(batches)))
        run.seconds = run.group.seconds_of_root(run.seconds + clock() - start)
        run.watcher.progress(run.progress, run.seconds, run.step)
        if run.step % config.log_every == 0 or run.progress >= 1:
            if logs is not None:
                logs.write("train", {**run.counters(), **_means(collected)})
            collected.clear()
        save = run.seconds >= next_save
        if save if config.validation_steps is None else run.step % config.validation_steps == 0:
            idle = run.idle_share()
            errors = run.validate(config.validation_batches)["all"]
            score = run.judge(errors)
            if logs is not None:
                logs.write("validation", {**run.counters(), "score": score, "idle": idle, **errors})
        if save:
            run.save()
            next_save = run.seconds + 60 * config.checkpoint_minutes


def _means(collected: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each quantity over the steps that have a finite one."""
    names = {name for entry in collected for name in entry}
    values = {name: [e[name] for e in collected if name in e and math.isfinite(e[name])] for name in sorted(names)}
    return {name: float(np.mean(found)) for name, found in values.items() if found}
