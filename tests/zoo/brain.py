"""Models of speechbrain, at small sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from . import entry, noise, stub

stub.install()

from speechbrain.lobes.models import CRDNN, Xvector, conv_tasnet, dual_path, resepformer  # noqa: E402
from speechbrain.lobes.models.ContextNet import ContextNet  # noqa: E402
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN  # noqa: E402
from speechbrain.lobes.models.HifiGAN import HifiganGenerator  # noqa: E402
from speechbrain.lobes.models.MetricGAN import EnhancementGenerator  # noqa: E402
from speechbrain.lobes.models.ResNet import ResNet  # noqa: E402
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR  # noqa: E402
from speechbrain.nnet.normalization import BatchNorm1d  # noqa: E402
from speechbrain.nnet.pooling import StatisticsPooling  # noqa: E402
from speechbrain.nnet.RNN import LSTM  # noqa: E402

SOURCE = "speechbrain"
FBANK = noise(2, 60, 40, scale=1.0)


@entry("ecapa_tdnn", SOURCE, FBANK, 0.6)
def ecapa_tdnn() -> nn.Module:
    return ECAPA_TDNN(
        40, lin_neurons=32, channels=[64, 64, 64, 64, 96], attention_channels=32, res2net_scale=4, se_channels=32
    )


@entry("xvector", f"{SOURCE}, adapted", FBANK, 0.6)
def xvector() -> nn.Module:
    """Its pooling adds noise of 1e-5 to the mean, in eval mode too; that is turned off, or no two runs would agree."""
    model = Xvector.Xvector(tdnn_channels=[48, 48, 48, 48, 96], lin_neurons=32, in_channels=40)
    for layer in model.modules():
        if isinstance(layer, StatisticsPooling):
            layer.eps = 0.0
    return model


@entry("speaker_resnet", SOURCE, noise(2, 48, 40, scale=1.0), 0.48)
def speaker_resnet() -> nn.Module:
    return ResNet(40, channels=[16, 16, 32, 32], block_sizes=[2, 2, 2, 2], lin_neurons=32)


@entry("crdnn_lstm", SOURCE, FBANK, 0.6)
def crdnn_lstm() -> nn.Module:
    return CRDNN.CRDNN(
        input_shape=[None, None, 40],
        cnn_channels=[16, 24],
        rnn_class=LSTM,
        rnn_layers=2,
        rnn_neurons=48,
        dnn_neurons=64,
    )


@entry("crdnn_ligru", SOURCE, noise(2, 16, 40, scale=1.0), 0.16)
def crdnn_ligru() -> nn.Module:
    """Its light GRU is a loop over time in Python."""
    return CRDNN.CRDNN(
        input_shape=[None, None, 40], cnn_channels=[16, 24], rnn_layers=1, rnn_neurons=32, dnn_neurons=48
    )


class Encode(nn.Module):
    """The encoder of a speechbrain recogniser."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.model = TransformerASR(
            20,
            40,
            d_model=64,
            nhead=4,
            num_encoder_layers=2,
            num_decoder_layers=1,
            d_ffn=128,
            max_length=200,
            **options,
        )
        self.out = nn.Linear(64, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.model.encode(x))


@entry("sb_transformer", SOURCE, FBANK, 0.6)
def sb_transformer() -> nn.Module:
    return Encode(causal=False)


@entry("sb_conformer", SOURCE, FBANK, 0.6)
def sb_conformer() -> nn.Module:
    return Encode(
        encoder_module="conformer", normalize_before=True, attention_type="RelPosMHAXL", kernel_size=15, causal=False
    )


@entry("sb_branchformer", SOURCE, FBANK, 0.6)
def sb_branchformer() -> nn.Module:
    return Encode(
        encoder_module="branchformer", attention_type="RelPosMHAXL", kernel_size=15, csgu_linear_units=96, causal=False
    )


class Separate(nn.Module):
    """Encoder, mask network, masked decoder (TasNet)."""

    def __init__(self, channels: int, masks: nn.Module, kernel: int = 16) -> None:
        super().__init__()
        self.encoder, self.masks = dual_path.Encoder(kernel_size=kernel, out_channels=channels), masks
        self.decoder = dual_path.Decoder(channels, 1, kernel, stride=kernel // 2, bias=False)

    def forward(self, wave: Tensor) -> Tensor:
        mixture = self.encoder(wave)
        mask = self.masks(mixture)
        return torch.cat([self.decoder(mixture * mask[i]).unsqueeze(-1) for i in range(2)], dim=-1)


@entry("conv_tasnet", SOURCE, noise(2, 3200), 0.2)
def conv_tasnet_() -> nn.Module:
    return Separate(64, conv_tasnet.MaskNet(64, 32, 64, 3, 3, 2, 2))


@entry("conv_tasnet_causal", SOURCE, noise(2, 3200), 0.2)
def conv_tasnet_causal() -> nn.Module:
    return Separate(64, conv_tasnet.MaskNet(64, 32, 64, 3, 3, 2, 2, norm_type="cLN", causal=True))


@entry("sepformer", SOURCE, noise(2, 2400), 0.15)
def sepformer() -> nn.Module:
    def block() -> nn.Module:
        return dual_path.SBTransformerBlock(1, 64, 4, d_ffn=128, use_positional_encoding=True, norm_before=True)

    return Separate(64, dual_path.Dual_Path_Model(64, 64, block(), block(), num_layers=1, K=50, skip_around_intra=True))


@entry("dprnn", SOURCE, noise(2, 2400), 0.15)
def dprnn() -> nn.Module:
    def block() -> nn.Module:
        return dual_path.SBRNNBlock(32, 48, 1)

    return Separate(64, dual_path.Dual_Path_Model(64, 32, block(), block(), num_layers=2, K=50))


@entry("resepformer", SOURCE, noise(2, 2400), 0.15)
def resepformer_() -> nn.Module:
    def block() -> nn.Module:
        return resepformer.SBTransformerBlock_wnormandskip(
            1, 64, 4, d_ffn=128, use_positional_encoding=True, norm_before=True, use_norm=True, use_skip=True
        )

    masks = resepformer.ResourceEfficientSeparator(
        64,
        num_spk=2,
        layer=1,
        segment_size=50,
        nonlinear="relu",
        mem_type="av",
        unit=64,
        seg_model=block(),
        mem_model=block(),
    )

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.masks = dual_path.Encoder(kernel_size=16, out_channels=64), masks
            self.decoder = dual_path.Decoder(64, 1, 16, stride=8, bias=False)

        def forward(self, wave: Tensor) -> Tensor:
            mixture = self.encoder(wave)
            mask = self.masks(mixture)
            return torch.stack([self.decoder(mixture * mask[i]) for i in range(2)], -1)

    return Masked()


@entry("contextnet", SOURCE, FBANK, 0.6)
def contextnet() -> nn.Module:
    """Squeeze-excite over the whole utterance after depthwise separable convolutions."""
    return ContextNet(
        (None, None, 40), out_channels=48, conv_channels=[32, 32, 48, 48, 48], kernel_size=3, strides=[1, 2, 1, 1, 1],
        num_blocks=3, num_layers=2, inner_dim=12, alpha=1, norm=BatchNorm1d,
    )  # fmt: skip


@entry("hifigan", SOURCE, noise(2, 40, 10, scale=1.0), 0.16)
def hifigan() -> nn.Module:
    return HifiganGenerator(40, 1, "1", [[1, 3, 5], [1, 3, 5]], [3, 5], [8, 8], 32, [4, 4])


@entry("metricgan", SOURCE, noise(2, 30, 257, scale=1.0), 0.48)
def metricgan() -> nn.Module:
    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = EnhancementGenerator(hidden_size=200)

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x.abs(), torch.ones(x.shape[0]))

    return Generator()
