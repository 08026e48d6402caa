"""Settings of a region classifier's training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator
from torch import nn

from detector.datasets.sources import DataSource
from detector.detection.settings import DetectionSettings
from detector.proposals.engines import ProposalConfig
from detector.seeds import Seed
from detector.settings import Settings
from detector.training.augment import AugmentSettings
from detector.training.engine.checkpoint import fingerprint_of, hash_of
from detector.training.engine.network import MemberConfig
from detector.training.engine.optimisers import DescentSettings
from detector.training.regions.bank import BankSettings
from detector.training.regions.box_loss import BoxLossSettings
from detector.training.regions.sampling import SamplingSettings


class OptimiserConfig(DescentSettings):
    """SGD as in R-CNN; its 0.001 with batches of 128 was for 50,000 steps, short runs bear more.
    Lengths are in steps.
    """

    method: Literal["sgd", "nesterov", "rmsprop", "adamw"] = "sgd"
    steps: int = Field(1000, ge=1)
    rate: float = Field(0.003, gt=0)
    head_factor: float = Field(10.0, gt=0)
    warmup: float = Field(50, ge=0)
    square_decay: float = Field(0.999, gt=0, lt=1)
    weight_decay: float = Field(0.0005, ge=0)
    average_decay: float = Field(0.995, ge=0, lt=1)
    save_every: int = Field(100, ge=1)
    validate_every: int = Field(0, ge=0)
    """Steps between two looks at the loss of the held-out images; the averaged weights with the
    lowest are kept. 0: no looks, and those of the last step.
    """
    patience: int = Field(0, ge=0)
    """End after so many looks without a lower loss; 0: never before the last step."""
    threads: int | None = Field(None, ge=1)
    """Threads of the processor that compute a step; null is all (run.threads). Where other programs
    are at work, fewer may be quicker.
    """


class TeacherConfig(Settings):
    """Distillation from a trained detector, on labelled and unlabelled crops (Hinton et al. 2015).

    With a bank it runs once, on the crops whose maps are kept.
    """

    bundle: str
    weight: float = Field(0.5, gt=0, le=1)
    """Of the teacher in the loss; the labels have the rest."""
    temperature: float = Field(1.0, gt=0)


class HeadsConfig(Settings):
    """Linear heads that are fitted on the finished networks, from the maps of the bank, and used by
    the finished detector (R-CNN's SVMs and box regression).
    """

    svm: bool = False
    regression: bool = False
    seed: Seed = 0


class RegionTrainingConfig(Settings):
    """All settings of a run."""

    data: tuple[DataSource, ...]
    classes: Literal["voc", "own"] | tuple[str, ...] = "own"
    proposals: ProposalConfig = ProposalConfig()
    member: MemberConfig = MemberConfig()
    sampling: SamplingSettings = SamplingSettings()
    augment: AugmentSettings = AugmentSettings()
    bank: BankSettings | None = None
    """With it the network below `bank.after` stays as it is, regions pass it once, and what is
    above is trained on the maps that were kept.
    """
    optimiser: OptimiserConfig = OptimiserConfig()
    box_loss: BoxLossSettings | None = None
    """With it box regression is learnt together with the classes, and used by the detector."""
    teacher: TeacherConfig | None = None
    detect_with: ProposalConfig | None = None
    """Proposals of the finished detector, where they are to differ from those it learns from."""
    heads: HeadsConfig = HeadsConfig()
    held_out: float = Field(0.0, ge=0, le=0.5)
    """So large a share of the images is not learnt from: the temperatures and the threshold of the
    finished detector are fitted on it. 0.1 where no config is given.
    """
    thresholds: DetectionSettings = DetectionSettings()
    """Of the finished detector."""
    licence: str = "not stated"
    """Of the trained weights; goes into the bundle."""

    @model_validator(mode="after")
    def _renamed_into_a_list(self) -> RegionTrainingConfig:
        if self.classes == "own" and any(source.rename != "none" for source in self.data):
            raise ValueError("rename leads into a class list: set classes, such as classes=voc")
        return self

    @model_validator(mode="after")
    def _heads_see_maps(self) -> RegionTrainingConfig:
        if (self.heads.svm or self.heads.regression) and self.bank is None:
            raise ValueError("heads are fitted on a bank's maps: give a bank, or leave heads out")
        return self

    @model_validator(mode="after")
    def _looks_need_images(self) -> RegionTrainingConfig:
        if self.optimiser.patience and not self.optimiser.validate_every:
            raise ValueError("optimiser.patience counts looks: set optimiser.validate_every")
        if self.optimiser.validate_every and not self.held_out:
            raise ValueError("optimiser.validate_every looks at held-out images: set held_out")
        return self

    @model_validator(mode="after")
    def _one_regression(self) -> RegionTrainingConfig:
        if self.box_loss is not None and self.heads.regression:
            raise ValueError("box_loss and heads.regression both give box regression: choose one")
        return self

    @model_validator(mode="after")
    def _no_prescorer(self) -> RegionTrainingConfig:
        if self.thresholds.prescore is not None:
            raise ValueError(
                "thresholds.prescore needs a pre-scorer, which a new detector does not have: fit"
                " one afterwards with inception-rcnn fit prescorer"
            )
        return self

    def of_member(self, number: int) -> RegionTrainingConfig:
        """The settings of one member of an ensemble: the same start and schedule, other samples
        (GoogLeNet, section 7).
        """
        return self.model_copy(update={"optimiser": self.optimiser.of_member(number)})


# Settings that a resumed or finished run may change: they concern the use of the weights, reports
# and saving, or the division of work.
NOT_OF_THE_WEIGHTS: Any = {
    "heads": True, "thresholds": True, "detect_with": True, "licence": True,
    "sampling": {"background_prior", "size_prior"},
    "optimiser": {"save_every", "max_bad_steps", "accumulate", "threads"},
}  # fmt: skip


def run_fingerprint(
    settings: RegionTrainingConfig, teacher: str = "", data: str = "", below: str = ""
) -> str:
    """A hash of all that the weights of a training depend on; it binds the checkpoints to their
    settings.

    teacher  hash of the teacher, if there is one
    data     hash of the regions
    below    hash of a bank's trunk, which no checkpoint holds
    """
    tree = settings.model_dump(exclude=NOT_OF_THE_WEIGHTS)
    return fingerprint_of({**tree, "taught_by": teacher, "regions": data, "below": below})


def bank_fingerprint(settings: RegionTrainingConfig, trunk: nn.Module) -> str:
    """A hash of all that the maps of a bank depend on besides images and boxes."""
    # Members that differ in training alone share a bank.
    chosen = settings.sampling.model_dump(
        include={"positive_iou", "background_low", "near_iou", "max_proposals"}
    )
    rooms = {"data", "classes", "proposals", "augment", "bank"}
    member = settings.member.model_dump(exclude={"freeze", "weights", "start_member"})
    # By its numbers, not its path: a start that was replaced is noticed.
    about = {"member": member, "trunk": hash_of(trunk)}
    return fingerprint_of({**settings.model_dump(include=rooms), **chosen, **about})
