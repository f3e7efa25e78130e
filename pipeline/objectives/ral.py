"""RAL's two training losses: samples of a video and of its queries find each other, and their distributions are drawn together."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.config.method_objectives import Ral as Settings
from pipeline.config.objectives import Objectives
from pipeline.core.errors import TrainingError
from pipeline.models.base import Retriever
from pipeline.models.distributions import Gaussian
from pipeline.models.ral import Ral
from pipeline.objectives.base import Objective, Step


class Distributions(Objective):
    """The weighted losses of both; the heads are the model's. Source: docs/methods.md, RAL 3-6."""

    needs = frozenset({"query.words", "video.frames", "video.mask"})

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def check(self, model: Retriever) -> None:
        """Only RAL's model describes sets by distributions. Errors: TrainingError."""
        if not isinstance(model, Ral):
            raise TrainingError(
                f"objectives.ral trains the heads of RAL's model, which {model.settings.kind!r} does not have",
                where="objectives.ral",
                fix="set objectives.ral.proxy_matching and .distribution_alignment to 0, or choose `model: {kind: ral, base: ...}`",
            )

    def __call__(self, step: Step) -> dict[str, Tensor]:
        settings, model = self.settings, step.model
        assert isinstance(model, Ral)
        video, text = model.distributions(step.query, step.video, step.labels, masked=settings.support == "words", buffer=settings.buffer)
        samples = {side: of.proxies(self.noise(step, of)) for side, of in (("text", text), ("video", video))}
        terms = {}
        if settings.proxy_matching:
            terms["ral_proxy_matching"] = settings.proxy_matching * proxy_matching(samples["video"], samples["text"])
        if settings.distribution_alignment:
            exact = settings.divergence == "exact"
            if not exact:
                video, text = sample_mean(samples["video"], video), sample_mean(samples["text"], text)
            terms["ral_alignment"] = settings.distribution_alignment * alignment(video, text, consistent=exact)
        return terms

    def noise(self, step: Step, of: Gaussian) -> Tensor:
        """Standard normal noise for the samples, text's before video's. Shapes: -> [B, K, H]."""
        videos, hidden = of.mean.shape
        shape, like = (videos, self.settings.proxies, hidden), of.mean
        where = step.generator.device if step.generator is not None else like.device
        return torch.randn(shape, generator=step.generator, device=where).to(like)


def build(settings: Settings, among: Objectives) -> Distributions:
    """The objective of `objectives.ral`."""
    return Distributions(settings)


def proxy_matching(video: Tensor, text: Tensor) -> Tensor:
    """Every sample of a video against the samples of all videos' queries, and the other way round.

    Dot products without a temperature; a row's loss is minus the mean log-softmax of the samples of its own video.

    Shapes: `video` [V, K, H], `text` [V, M, H] -> scalar. Source: docs/methods.md, RAL 4 (golden ral/d_pm).
    """
    logits = video.flatten(0, 1) @ text.flatten(0, 1).T  # [V K, V M]
    sizes = (len(video), video.shape[1], len(text), text.shape[1])
    return (_missed(logits, sizes) + _missed(logits.T, (sizes[2], sizes[3], sizes[0], sizes[1]))) / 2


def _missed(logits: Tensor, sizes: tuple[int, int, int, int]) -> Tensor:
    own = logits.view(sizes).diagonal(dim1=0, dim2=2).mean(1)  # [K, V]: the mean over a row's own columns
    return (logits.logsumexp(1) - own.T.flatten()).mean()


def alignment(video: Gaussian, text: Gaussian, *, consistent: bool = False) -> Tensor:
    """Each distribution against a standard normal one, and KL(text || video); means over the videos.

    Released: the first two take `log_sigma` for a log variance, the third for a log standard deviation, and the means are those of the
    samples. `consistent`: a log standard deviation throughout.

    Shapes: [V, H] each -> scalar. Source: docs/methods.md, RAL 4 (golden ral/d_da).
    """
    scale = 2 if consistent else 1
    prior = sum(0.5 * ((scale * s).exp() + m.square() - 1 - scale * s).sum(1).mean() for m, s in (video, text))
    return prior + divergence(text, video)


def divergence(first: Gaussian, second: Gaussian) -> Tensor:
    """KL(first || second) of Gaussians given by log standard deviations, mean over the items. Shapes: [V, H] -> scalar."""
    spread = second.log_sigma - first.log_sigma
    # exp(2s1)/exp(2s2) as one exponential of the difference: neither can overflow alone.
    distance = (first.mean - second.mean).square() * (-2 * second.log_sigma).exp()
    return (spread + 0.5 * ((-2 * spread).exp() + distance - 1)).sum(1).mean()


def sample_mean(proxies: Tensor, of: Gaussian) -> Gaussian:
    """The distribution with the mean of its samples in place of its own, as the released code measures it. Shapes: `proxies` [V, K, H]."""
    return Gaussian(proxies.mean(1), of.log_sigma)
