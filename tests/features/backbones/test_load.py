"""Image extractors by name and where their weights come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomaly.errors import WeightsError
from anomaly.features.backbones import load_backbone


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
