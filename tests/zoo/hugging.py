"""Models of 🤗 transformers, from configurations alone: no weights are read."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from . import Output, entry, noise

SOURCE = "transformers"
WAVE = noise(2, 8000)
HALF = 0.5

ENCODER: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": (32, 32, 32, 32, 32, 32, 32),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
    "classifier_proj_size": 48,
    "num_labels": 5,
}


@entry("wav2vec2", SOURCE, WAVE, HALF)
def wav2vec2() -> nn.Module:
    return Output(hf.Wav2Vec2ForCTC(hf.Wav2Vec2Config(**ENCODER)), "logits")


@entry("wav2vec2_large", SOURCE, WAVE, HALF)
def wav2vec2_large() -> nn.Module:
    """The "large" form: layer norms in the convolutions, pre-norm transformer, adapter."""
    config = hf.Wav2Vec2Config(
        **ENCODER, feat_extract_norm="layer", do_stable_layer_norm=True, add_adapter=True, num_adapter_layers=2
    )
    return Output(hf.Wav2Vec2ForCTC(config), "logits")


@entry("hubert", SOURCE, WAVE, HALF)
def hubert() -> nn.Module:
    return Output(hf.HubertForSequenceClassification(hf.HubertConfig(**ENCODER, use_weighted_layer_sum=True)), "logits")


@entry("wavlm", SOURCE, WAVE, HALF)
def wavlm() -> nn.Module:
    return Output(
        hf.WavLMForSequenceClassification(hf.WavLMConfig(**ENCODER, num_buckets=32, max_bucket_distance=64)), "logits"
    )


@entry("wavlm_xvector", SOURCE, noise(2, 16000))
def wavlm_xvector() -> nn.Module:
    config = hf.WavLMConfig(
        **ENCODER, num_buckets=32, max_bucket_distance=64, tdnn_dim=(48, 48, 48, 48, 96), xvector_output_dim=32
    )
    return Output(hf.WavLMForXVector(config), "embeddings")


@entry("unispeech", SOURCE, WAVE, HALF)
def unispeech() -> nn.Module:
    return Output(hf.UniSpeechForCTC(hf.UniSpeechConfig(**ENCODER, num_ctc_classes=32)), "logits")


@entry("unispeech_sat", SOURCE, WAVE, HALF)
def unispeech_sat() -> nn.Module:
    return Output(hf.UniSpeechSatForSequenceClassification(hf.UniSpeechSatConfig(**ENCODER)), "logits")


@entry("wav2vec2_conformer", SOURCE, WAVE, HALF)
def wav2vec2_conformer() -> nn.Module:
    config = hf.Wav2Vec2ConformerConfig(**ENCODER, position_embeddings_type="relative", conv_depthwise_kernel_size=15)
    return Output(hf.Wav2Vec2ConformerForCTC(config), "logits")


@entry("wav2vec2_conformer_rotary", SOURCE, WAVE, HALF)
def wav2vec2_conformer_rotary() -> nn.Module:
    config = hf.Wav2Vec2ConformerConfig(**ENCODER, position_embeddings_type="rotary", conv_depthwise_kernel_size=15)
    return Output(hf.Wav2Vec2ConformerForCTC(config), "logits")


@entry("wav2vec2_bert", SOURCE, noise(2, 60, 160), 1.2)
def wav2vec2_bert() -> nn.Module:
    options = {key: value for key, value in ENCODER.items() if not key.startswith(("conv_", "num_conv"))}
    config = hf.Wav2Vec2BertConfig(**options, conv_depthwise_kernel_size=15)
    return Output(hf.Wav2Vec2BertForCTC(config), "logits", "input_features")


@entry("data2vec_audio", SOURCE, WAVE, HALF)
def data2vec_audio() -> nn.Module:
    options = {key: value for key, value in ENCODER.items() if key != "num_conv_pos_embeddings"}
    return Output(
        hf.Data2VecAudioForCTC(hf.Data2VecAudioConfig(**options, num_conv_pos_embeddings=3, conv_pos_kernel_size=9)),
        "logits",
    )


SHORT = {**ENCODER, "conv_dim": (32,) * 7, "conv_stride": (5, 2, 2, 2, 2, 2, 2), "conv_kernel": (10, 3, 3, 3, 3, 2, 2)}


@entry("sew", SOURCE, WAVE, HALF)
def sew() -> nn.Module:
    return Output(hf.SEWForCTC(hf.SEWConfig(**SHORT, squeeze_factor=2)), "logits")


@entry("sew_d", SOURCE, WAVE, HALF)
def sew_d() -> nn.Module:
    config = hf.SEWDConfig(**SHORT, squeeze_factor=2, max_position_embeddings=64, position_buckets=16)
    return Output(hf.SEWDForCTC(config), "logits")


@entry("whisper_encoder", SOURCE, noise(2, 80, 200), 2.0)
def whisper_encoder() -> nn.Module:
    config = hf.WhisperConfig(
        d_model=64, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=128, max_source_positions=100,
        num_mel_bins=80, num_labels=5, classifier_proj_size=48, decoder_layers=1, decoder_attention_heads=4,
    )  # fmt: skip
    return Output(hf.WhisperForAudioClassification(config), "logits", "input_features")


@entry("ast", SOURCE, noise(2, 128, 64), 1.28)
def ast() -> nn.Module:
    config = hf.ASTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, max_length=128,
        num_mel_bins=64, num_labels=5,
    )  # fmt: skip
    return Output(hf.ASTForAudioClassification(config), "logits")


@entry("speecht5_encoder", SOURCE, WAVE, HALF)
def speecht5_encoder() -> nn.Module:
    from transformers.models.speecht5.modeling_speecht5 import SpeechT5EncoderWithSpeechPrenet

    config = hf.SpeechT5Config(
        hidden_size=64, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=128, conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, encoder_layerdrop=0.0, mask_time_prob=0.0,
    )  # fmt: skip
    return Output(SpeechT5EncoderWithSpeechPrenet(config), "last_hidden_state")


def encodec() -> Any:
    return hf.EncodecModel(hf.EncodecConfig(num_filters=8, hidden_size=32, codebook_dim=32, num_lstm_layers=2))


def plain_numbers(model: nn.Module) -> nn.Module:
    """Strides and kernel sizes that are kept as tensors become numbers: else the padding depends on data."""
    for layer in model.modules():
        for name, buffer in list(layer.named_buffers(recurse=False)):
            if buffer.dim() == 0 and not buffer.is_floating_point():
                delattr(layer, name)
                setattr(layer, name, int(buffer))
        if hasattr(layer, "_get_extra_padding_for_conv1d"):
            layer._get_extra_padding_for_conv1d = partial(extra_padding, layer)  # type: ignore[assignment]
    return model


def extra_padding(layer: Any, x: Tensor) -> int:
    """What the model computes on tensors: padding up to a whole number of frames."""
    frames = (x.shape[-1] - layer.kernel_size + layer.padding_total + layer.stride - 1) // layer.stride
    return frames * layer.stride + layer.kernel_size - layer.padding_total - x.shape[-1]


@entry("encodec_encoder", SOURCE, noise(2, 1, 4800), 0.2)
def encodec_encoder() -> nn.Module:
    return encodec().encoder


@entry("encodec_encoder_numbers", f"{SOURCE}, adapted", noise(2, 1, 4800), 0.2)
def encodec_encoder_numbers() -> nn.Module:
    return plain_numbers(encodec().encoder)


@entry("encodec_decoder_numbers", f"{SOURCE}, adapted", noise(2, 32, 15), 0.2)
def encodec_decoder_numbers() -> nn.Module:
    return plain_numbers(encodec().decoder)


@entry("dac_encoder", SOURCE, noise(2, 1, 5120), 0.32)
def dac_encoder() -> nn.Module:
    return hf.DacModel(
        hf.DacConfig(encoder_hidden_size=8, decoder_hidden_size=64, codebook_dim=8, codebook_size=32)
    ).encoder


@entry("dac_decoder", SOURCE, noise(2, 128, 10), 0.32)
def dac_decoder() -> nn.Module:
    config = hf.DacConfig(encoder_hidden_size=8, decoder_hidden_size=128, codebook_dim=8, codebook_size=32)
    return hf.DacModel(config).decoder


@entry("mimi_encoder_numbers", f"{SOURCE}, adapted", noise(2, 1, 9600), 0.4)
def mimi_encoder_numbers() -> nn.Module:
    config = hf.MimiConfig(
        num_filters=8, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        intermediate_size=128, codebook_dim=32, vector_quantization_hidden_dimension=32, head_dim=16, upsample_groups=64,
        use_cache=False,
    )  # fmt: skip
    return plain_numbers(Output(hf.MimiModel(config).encoder, "latents"))


@entry("moonshine_encoder", SOURCE, noise(2, 8000), HALF)
def moonshine_encoder() -> nn.Module:
    config = hf.MoonshineConfig(
        hidden_size=64, intermediate_size=128, encoder_num_hidden_layers=2, decoder_num_hidden_layers=1,
        encoder_num_attention_heads=4, decoder_num_attention_heads=4, vocab_size=64,
    )  # fmt: skip
    return Output(hf.MoonshineModel(config).encoder, "last_hidden_state")


TOKENS = torch.arange(40).reshape(2, 20) % 13 + 1


TOKENS = torch.arange(40).reshape(2, 20) % 13 + 1


@entry("fastspeech2_conformer_encoder", SOURCE, lambda: (TOKENS.clone(),))
def fastspeech2_conformer_encoder() -> nn.Module:
    """From phonemes: an embedding, convolutions in place of feed-forward layers."""
    from transformers.models.fastspeech2_conformer.modeling_fastspeech2_conformer import FastSpeech2ConformerEncoder

    config = hf.FastSpeech2ConformerConfig(
        hidden_size=64, encoder_layers=2, decoder_layers=2, encoder_num_attention_heads=4, decoder_num_attention_heads=4,
        encoder_linear_units=128, decoder_linear_units=128, vocab_size=20,
    )  # fmt: skip
    return Output(FastSpeech2ConformerEncoder(config, config.encoder_config, use_encoder_input_layer=True), 0)
