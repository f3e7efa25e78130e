"""RAL's two training losses: samples of a video and of its queries find each other, and their distributions are drawn together."""

from __future__ import annotations

from torch import Tensor

from pipeline.models.distributions import Gaussian


def proxy_matching(video: Tensor, text: Tensor) -> Tensor:
    """Every sample of a video against the samples of all videos' queries, and the other way round.

    Dot products without a temperature; a row's loss is minus the mean log-softmax of the samples of its own video.

    Shapes: `video` [V, K, H], `text` [V, M, H] -> scalar. Source: METHODS 7.4 (golden ral/d_pm).
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

    Shapes: [V, H] each -> scalar. Source: METHODS 7.4 (golden ral/d_da).
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
