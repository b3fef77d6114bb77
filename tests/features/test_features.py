"""Extractors, their weights and their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly.data.pictures import defects
from anomaly.data.tables import faults
from anomaly.errors import WeightsError
from anomaly.features.backbones import load_backbone
from anomaly.features.build import build_sensor_encoder, load_sensor_extractor, save_extractor
from anomaly.features.encoder import SensorEncoder
from anomaly.features.preprocess import ImagePreprocess
from anomaly.features.stages import fold_batch_norm
from anomaly.features.training.pretrain_images import vicreg_loss
from anomaly.features.training.pretrain_sensors import pretrain_sensors
from anomaly.spec import Pretrain, SensorSpec


def test_packaged_weights_are_imagenets() -> None:
    """The stages cut open give what the whole network computes there, and the whole network knows ImageNet's statistics."""
    extractor, source = load_backbone("efficientnet_lite0", ["blocks.4", "blocks.5"])
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = extractor(x)
    assert [tuple(m.shape) for m in maps] == [(1, 112, 8, 8), (1, 192, 4, 4)]
    assert source.licence == "Apache-2.0"
    assert source.sha256.startswith("57934424")  # as its file name says
    assert not any(p.requires_grad for p in extractor.parameters())


def test_torchvision_from_a_local_file(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "r.pth")
    extractor, source = load_backbone("resnet18", ["layer2"], tmp_path / "r.pth")
    assert extractor(torch.zeros(1, 3, 64, 64))[0].shape == (1, 128, 8, 8)
    assert source.weights == "r.pth"


def test_weights_that_cannot_be_had_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(WeightsError, match=r"neither cached nor reachable .*use the packaged"):
        load_backbone("resnet18", ["layer2"])
    with pytest.raises(WeightsError, match=r"neither packaged .* nor oriented_filters, in timm or in torchvision"):
        load_backbone("resnet1800", ["layer2"])
    with pytest.raises(WeightsError, match=r"extractor\.stages \['blocks\.99'\]"):
        load_backbone("efficientnet_lite0", ["blocks.99"])
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(WeightsError, match="no such weights file"):
        load_backbone("efficientnet_lite0", ["blocks.4"], tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("name", "stages"), [("efficientnet_lite0", ("blocks.4", "blocks.5")), ("untrained:resnet18", ("layer2", "layer3"))]
)
def test_folded_batch_norm_answers_the_same_and_leaves_the_network_alone(name: str, stages: tuple[str, ...]) -> None:
    network, _ = load_backbone(name, stages)
    generator = torch.Generator().manual_seed(0)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:  # other statistics than the network came with
        norm.running_mean += 0.1 * torch.randn(norm.running_mean.shape, generator=generator)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    x = torch.randn(2, 3, 64, 96, generator=generator)
    quick = fold_batch_norm(network)
    for ours, theirs in zip(quick(x), network(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in quick.modules())
    assert fold_batch_norm(quick) is quick
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_fixed_filters_see_orientation_and_not_exposure() -> None:
    extractor, source = load_backbone("oriented_filters", ["mean", "peak"])
    assert (source.licence, source.sha256) == ("none", "")
    noise = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    mean, peak = extractor(noise)
    assert mean.shape == (1, 36, 16, 16)
    assert peak.shape == (1, 32, 16, 16)
    for one, other in zip(extractor(noise), extractor(0.3 * noise + 0.5), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    waves = torch.sin(2 * torch.pi * torch.arange(256) / 5.0)  # of the filters' own wavelength, along x
    upright = extractor(waves[None, None, None, :].expand(1, 3, 256, 256).contiguous())[0][0, :8, 8, 8]
    lying = extractor(waves[None, None, :, None].expand(1, 3, 256, 256).contiguous())[0][0, :8, 8, 8]
    assert (int(upright.argmax()), int(lying.argmax())) == (0, 4)
    with pytest.raises(WeightsError, match=r"extractor\.stages \['blocks\.4'\]: oriented_filters has the stages"):
        load_backbone("oriented_filters", ["mean", "blocks.4"])


def test_gray_and_16_bit_are_seen_as_the_same_picture() -> None:
    gray = np.random.default_rng(0).integers(256, size=(1, 50, 70, 1), dtype=np.uint8)
    mean, std = (127.0,) * 3, (128.0,) * 3
    one = ImagePreprocess((32, 32), mean, std)(torch.from_numpy(gray))
    three = ImagePreprocess((32, 32), mean, std)(torch.from_numpy(np.repeat(gray, 3, axis=3)))
    deep = ImagePreprocess((32, 32), mean, std, deep=True)(torch.from_numpy(gray.astype(np.uint16) * 257))
    assert one.shape == (1, 3, 32, 32)
    torch.testing.assert_close(one, three)
    torch.testing.assert_close(one, deep)


def test_encoder_file_round_trip_and_mismatch(tmp_path: Path) -> None:
    spec = SensorSpec(kind="sensor")
    encoder = build_sensor_encoder(spec)
    about = {"kind": "sensor", "channels": 4, "dilations": [1, 2, 4, 8], "adaptation": {"kept": True}}
    save_extractor(tmp_path / "e.safetensors", encoder, about)
    again, _ = load_sensor_extractor(spec, tmp_path / "e.safetensors")
    z = torch.randn(2, 3, 30)
    torch.testing.assert_close(encoder(z).mean(dim=2), again(torch.stack([z, torch.ones_like(z)], dim=1).transpose(2, 3))[2][:, :, 0])
    save_extractor(tmp_path / "e.safetensors", encoder, {**about, "adaptation": {"kept": False}})
    assert load_sensor_extractor(spec, tmp_path / "e.safetensors")[0].encoder is None
    save_extractor(tmp_path / "f.safetensors", encoder, {**about, "channels": 8})
    with pytest.raises(WeightsError, match="made with channels = 8, the spec asks for 4"):
        load_sensor_extractor(spec, tmp_path / "f.safetensors")
    (tmp_path / "g.safetensors").write_bytes(b"123")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_sensor_extractor(spec, tmp_path / "g.safetensors")


def test_encoder_is_causal() -> None:
    encoder = SensorEncoder(4).eval()
    z = torch.randn(1, 2, 40)
    changed = z.clone()
    changed[:, :, 25:] += 1.0
    torch.testing.assert_close(encoder(z)[:, :, :25], encoder(changed)[:, :, :25])


def test_masked_reconstruction_learns_something() -> None:
    t = torch.arange(40) / 40
    phase = torch.rand(300, 2, 1, generator=torch.Generator().manual_seed(0))
    z = torch.sin(2 * torch.pi * (t + phase) * 2) * 1.4
    before, after = pretrain_sensors(
        SensorEncoder(4), z, Pretrain(epochs=10, batch=32, learning_rate=5e-3), torch.Generator().manual_seed(0)
    )
    assert after < 0.6 * before


def test_vicreg_by_hand() -> None:
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    assert float(vicreg_loss(x, x)) == pytest.approx(0.0, abs=1e-6)  # agrees, spread wide enough, uncorrelated
    assert float(vicreg_loss(torch.zeros(4, 2), torch.zeros(4, 2))) == pytest.approx(25 * 0.99, rel=1e-3)  # collapsed


@pytest.mark.parametrize("kind", defects.KINDS)
def test_made_up_defects_change_a_little_where_they_say(picture: np.ndarray, kind: str) -> None:
    before = picture.copy()
    shares = []
    for seed in range(20):
        marked, mask = defects.inject(picture, np.random.default_rng(seed), kind)
        np.testing.assert_array_equal(picture, before)
        assert marked.dtype == np.uint8
        assert (np.abs(marked.astype(int) - before).max(axis=2)[~mask] <= 6).all()
        shares.append(mask.mean())
    assert 0 < np.mean(shares) < 0.25


@pytest.mark.parametrize("kind", faults.KINDS)
def test_made_up_faults_touch_one_sensor(kind: str) -> None:
    rng = np.random.default_rng(0)
    window = rng.normal(size=(30, 4)).astype(np.float32)
    faulty, sensor = faults.inject(window, rng, np.ones(4, np.float32), kind)
    changed = (faulty != window).any(axis=0)
    assert changed.sum() <= 1
    assert changed[sensor] or kind == "stuck"
