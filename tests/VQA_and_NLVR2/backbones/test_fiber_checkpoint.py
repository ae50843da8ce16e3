"""Files of FIBER's weights: every entry accounted for, other image sizes, heads, and files that are
refused."""

import dataclasses
import json
import os
import re
import sys
import types
from collections import Counter

import pytest
import torch
from safetensors.torch import save_file

from i2m2.errors import DataError, SettingsError
from tests.VQA_and_NLVR2.tiny_fiber import TINY, examples, tiny_fiber, vectors
from VQA_and_NLVR2.backbones.build import build_backbone
from VQA_and_NLVR2.backbones.fiber import FIBER, FIBERSizes
from VQA_and_NLVR2.backbones.fiber_checkpoint import RULES, adapt_table, load_fiber, load_heads
from VQA_and_NLVR2.backbones.heads import make_head
from VQA_and_NLVR2.backbones.settings import BackboneSettings

LARGER = dataclasses.replace(TINY, swin=dataclasses.replace(TINY.swin, image_size=96))


def published(model: FIBER) -> dict[str, torch.Tensor]:
    """What a pre-training file of this size holds: the model's entries, buffers, parameters without
    use, heads and queues."""
    tokens = torch.zeros(()).expand(4096, 3, 384, 384)  # a queue whose file is small
    entries = dict(model.state_dict()) | dict(model.named_buffers())
    entries |= {
        "text_transformer.embeddings.position_ids": torch.arange(20)[None],
        "image_input_queue": tokens,
    }
    entries |= {
        f"text_transformer.pooler.dense.{kind}": torch.ones(3) for kind in ("weight", "bias")
    }
    entries |= {f"text_transformer.encoder.layer.{k}.alpha_t2i": torch.zeros(1) for k in range(2)}
    norm = "text_transformer.encoder.layer.{}.crossattention_t2i.output.LayerNorm.{}"
    entries |= {
        norm.format(k, kind): torch.ones(3) for k in range(2, 6) for kind in ("weight", "bias")
    }
    entries |= {
        "temp": torch.ones(()),
        "mlm_score.bias": torch.ones(3),
        "itm_score.fc.bias": torch.ones(2),
    }
    return entries | {
        "queue_ptr": torch.zeros(1, dtype=torch.long),
        "rank_output.bias": torch.ones(1),
    }


def saved(path, entries, **beside):
    torch.save({"state_dict": entries, "epoch": 3, "callbacks": {}, **beside}, path)
    return path


def equal_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_every_published_entry_has_its_place_in_the_full_size_model(shared):
    described = json.loads((shared / "reference/fiber_checkpoint_keys.json").read_text())
    parts = described["pretraining_checkpoint_384px"]
    entries = {name: shape for part in parts.values() for name, (shape, _, _) in part.items()}
    assert len(entries) == 722
    with torch.device("meta"):
        own, swin = FIBER(FIBERSizes()), FIBERSizes().swin
        larger = FIBER(FIBERSizes(swin=dataclasses.replace(swin, image_size=576)))
    weights, buffers = own.state_dict(), dict(own.named_buffers())
    assert {name: list(value.shape) for name, value in weights.items()} == {
        name: entries[name] for name in weights
    }
    rest = entries.keys() - weights.keys()
    by_rule: dict[str, list[str]] = {name: [] for name in rest}
    for name, rules in by_rule.items():
        rules += [rule for rule, pattern in RULES.items() if re.fullmatch(pattern, name)]
    assert Counter(rule for rules in by_rule.values() for rule in rules) == {
        "queues of pre-training": 7,
        "heads of pre-training": 11,
        "derived buffers": 24 + 11 + 1,
        "without use": 2 + 6 + 12,
    }
    assert all(len(rules) == 1 for rules in by_rule.values())
    assert set(by_rule) >= {
        name for name in described["load_rules"]["loaded_but_never_used_in_forward"]
    }
    assert {name: list(value.shape) for name, value in buffers.items()} == {
        name: entries[name] for name in buffers
    }
    both = dict(larger.named_buffers()) | larger.state_dict()
    for name, (_, shape) in described["shapes_that_change_with_resolution"]["entries"].items():
        assert list(both[name].shape) == shape


@pytest.mark.parametrize("form", ["state_dict", "bare", "old", "safetensors"])
def test_a_published_file_is_accounted_for_entry_by_entry(tmp_path, form):
    source, model = tiny_fiber(), FIBER(TINY)
    entries = published(source)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "fiber_pretrain.ckpt")
    if form == "safetensors":
        entries.pop("image_input_queue")
        save_file({name: value.contiguous() for name, value in entries.items()}, path)
    elif form == "state_dict":
        saved(path, entries)
    else:
        torch.save(entries, path, _use_new_zipfile_serialization=form == "bare")
    report = load_fiber(model, path)
    assert equal_weights(source, model)
    assert set(report.loaded) == set(model.state_dict())
    assert {rule: len(names) for rule, names in report.ignored.items()} == {
        "queues of pre-training": 1 + (form != "safetensors"),
        "heads of pre-training": 4,
        "derived buffers": 10 + 4 + 1,
        "without use": 2 + 2 + 8,
    }
    assert report.adapted == report.missing == report.unexpected == ()
    assert sum(map(len, [report.loaded, *report.ignored.values()])) == len(entries)
    assert str(report).splitlines()[0] == f"{path}: {len(report.loaded)} entries loaded"


def test_weights_of_another_image_size_are_adapted_and_its_size_is_told(tmp_path):
    source, model = tiny_fiber(), FIBER(LARGER).eval()
    report = load_fiber(model, saved(tmp_path / "file.ckpt", published(source)))
    assert (report.trained_at, len(report.adapted), len(report.missing)) == (64, 10, 0)
    assert "10 adapted from 64 pixels" in str(report)
    name = "vit_model.layers.2.blocks.1.attn.relative_position_bias_table"
    assert torch.equal(model.state_dict()[name], adapt_table(source.state_dict()[name], 3))
    assert vectors(model, *examples(model))["fused"].isfinite().all()
    back = FIBER(LARGER)
    assert load_fiber(back, saved(tmp_path / "larger.ckpt", model.state_dict())).adapted == ()
    assert equal_weights(back, model)


def test_an_adapted_table_keeps_constants_and_symmetry():
    row, column = torch.meshgrid(
        torch.linspace(-1, 1, 23), torch.linspace(-1, 1, 23), indexing="ij"
    )
    table = torch.stack([torch.full((23, 23), 0.7), row, row * column], dim=-1).view(529, 3)
    grid = adapt_table(table, 18).view(35, 35, 3)
    torch.testing.assert_close(grid[..., 0], torch.full((35, 35), 0.7))
    torch.testing.assert_close(
        grid[..., 1], -grid.flip(0)[..., 1]
    )  # the middle of the table is no distance at all, and stays so
    torch.testing.assert_close(grid[..., 2], grid[..., 2].T)
    assert torch.equal(adapt_table(table, 12), table)


def test_what_a_file_lacks_and_what_nobody_knows_is_listed(tmp_path):
    entries = published(tiny_fiber())
    entries["caption_head.weight"] = torch.ones(2)
    for name in [name for name in entries if "itc" in name]:
        del entries[name]
    report = load_fiber(FIBER(TINY), saved(tmp_path / "file.ckpt", entries))
    assert len(report.missing) == 8 and report.unexpected == ("caption_head.weight",)
    assert "missing, left as they were: 8 (cross_modal_text_transform_itc.weight" in str(report)
    assert "unexpected, left out: 1 (caption_head.weight)" in str(report)


FIRST_TABLE = "vit_model.layers.0.blocks.0.attn.relative_position_bias_table"


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"vit_model.layers.4.blocks.0.norm1.weight": torch.ones(8)},
            "0.norm1.weight) are not in the model",
        ),
        (
            {"vit_model.norm.weight": torch.ones(65)},
            "vit_model.norm.weight is [65], in the model [64]",
        ),
        (
            {"vit_model.norm.weight": torch.full([64], float("nan"))},
            "vit_model.norm.weight holds NaN",
        ),
        (
            {"vit_model.norm.weight": torch.ones(64, dtype=torch.long)},
            "vit_model.norm.weight holds NaN, infinity or other than",
        ),
        (
            {FIRST_TABLE: torch.zeros(25, 1)},
            "position tables of different windows [2, 3]",
        ),
        ({FIRST_TABLE: torch.zeros(8, 1)}, "has (2 w - 1)^2 rows"),
        (
            {FIRST_TABLE: torch.zeros(9, 2)},
            "table is [9, 2], in the model [9, 1]",
        ),
    ],
)
def test_weights_of_another_architecture_are_refused_and_change_nothing(tmp_path, change, message):
    model, untouched = FIBER(TINY), FIBER(TINY)
    untouched.load_state_dict(model.state_dict())
    with pytest.raises(DataError) as error:
        load_fiber(model, saved(tmp_path / "file.ckpt", published(tiny_fiber()) | change))
    assert message in str(error.value) and str(error.value).startswith(
        f"{tmp_path / 'file.ckpt'}: "
    )
    assert "\n" not in str(error.value) and equal_weights(model, untouched)


def test_a_file_that_would_run_code_is_refused_and_does_not_run_it(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    path = saved(tmp_path / "file.ckpt", published(tiny_fiber()), hyper_parameters=Harmful())
    with pytest.raises(
        DataError,
        match=r"more than tensors and settings: 1 \(\w+.mkdir\), and no file is read by running",
    ) as error:
        load_fiber(FIBER(TINY), path)
    assert not (tmp_path / "made").exists() and "\n" not in str(error.value)


def test_objects_a_training_framework_left_in_the_file_are_passed_over(tmp_path, monkeypatch):
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    exec(
        "class ModelCheckpoint:\n    def __setstate__(self, state): raise RuntimeError('ran')",
        module.__dict__,
    )
    module.ModelCheckpoint.__module__ = name
    for k in range(1, 4):
        monkeypatch.setitem(sys.modules, ".".join(name.split(".")[:k]), module)
    monkeypatch.setattr(module, "callbacks", module, raising=False)
    callback = module.ModelCheckpoint()
    callback.best = 0.7
    source, model = tiny_fiber(), FIBER(TINY)
    path = saved(
        tmp_path / "last.ckpt",
        published(source),
        callbacks={module.ModelCheckpoint: {"best": 0.7}},
        object=callback,
    )
    monkeypatch.undo()  # the framework need not be there
    load_fiber(model, path)
    assert equal_weights(source, model)


def test_files_that_are_no_checkpoints_of_fiber_are_refused(tmp_path):
    whole = saved(tmp_path / "file.ckpt", published(tiny_fiber())).read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "half.safetensors").write_bytes(whole[:1000])
    torch.save([1, 2], tmp_path / "list.ckpt")
    saved(tmp_path / "others.ckpt", {"encoder.weight": torch.ones(2)})
    saved(tmp_path / "mixed.ckpt", {"encoder.weight": 3})
    for name, message in {
        "half.ckpt": "not a readable checkpoint",
        "half.safetensors": "not a readable checkpoint",
        "list.ckpt": "it holds a list, not a dict",
        "others.ckpt": r"no weights for FIBER among its entries: 1 \(encoder.weight\); give a file",
        "mixed.ckpt": "neither an entry state_dict nor a plain dict of tensors",
    }.items():
        with pytest.raises(DataError, match=message) as error:
            load_fiber(FIBER(TINY), tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(SettingsError, match="missing.ckpt: no such file"):
        load_fiber(FIBER(TINY), tmp_path / "missing.ckpt")


def head_entries(prefix: str, head: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in head.state_dict().items()}


def test_heads_have_the_published_numbers_of_parameters():
    widths = {"vqa": ((768, 768, 1536), 3129), "nlvr2": ((1536, 768, 3072), 2)}
    with torch.device("meta"):
        counts = {
            task: sum(p.numel() for x in inputs for p in make_head(x, classes).parameters())
            for task, (inputs, classes) in widths.items()
        }
    assert counts == {
        "vqa": 19_160_238 - 3,
        "nlvr2": 8_280_585 - 3,
    }  # without the three scalars that nothing uses


def test_heads_are_found_under_the_names_of_fiber_and_of_i2m2(tmp_path):
    heads = {
        name: make_head(width, 5, 8) for name, width in (("image", 24), ("text", 24), ("inter", 48))
    }
    i2m2 = {"vqa_classifier.intra_1": torch.ones(())}
    for name, part in (("image", "image_model"), ("text", "text_model"), ("inter", "cat_model")):
        i2m2 |= head_entries(f"vqa_classifier.{part}.", heads[name])
    files = {"fiber": head_entries("vqa_classifier.", heads["inter"]), "i2m2": i2m2}
    files["text"] = head_entries("vqa_classifier.model.", heads["text"])
    for name, entries in files.items():
        saved(
            tmp_path / name,
            entries
            | head_entries("nlvr2_classifier.cat_model.", make_head(3, 2))
            | {"temp": torch.ones(())},
        )
    for file, names in {
        "fiber": ["inter"],
        "i2m2": ["image", "text", "inter"],
        "text": ["text"],
    }.items():
        fresh = {name: make_head(heads[name][0].in_features, 5, 8) for name in names}
        report = load_heads(fresh, tmp_path / file, "vqa")
        assert len(report.loaded) == 6 * len(names) and report.missing == ()
        assert all(equal_weights(fresh[name], heads[name]) for name in names)
    with pytest.raises(
        DataError, match="no vqa head with 6 .image.0.weight, .*heads in the file: inter$"
    ):
        load_heads({"image": make_head(24, 5, 8)}, tmp_path / "fiber", "vqa")
    with pytest.raises(DataError, match="does not say which of image, text it is"):
        load_heads(
            {"image": make_head(24, 5, 8), "text": make_head(24, 5, 8)}, tmp_path / "text", "vqa"
        )
    with pytest.raises(DataError, match=r"inter.3.weight is \[5, 8\], in the model \[7, 8\]"):
        load_heads({"inter": make_head(48, 7, 8)}, tmp_path / "fiber", "vqa")


def test_the_name_of_a_backbone_says_where_its_weights_come_from(tmp_path):
    sizes = {
        "swin": dict(TINY.swin.__dict__),
        "roberta": dict(TINY.roberta.__dict__),
        "fiber": {"hidden_size": 24, "num_fuse_block": 4, "max_text_len": 12},
    }
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    common = {"sizes": str(tmp_path / "sizes.json"), "image_size": 96, "tokenizer": "folder"}
    path = saved(tmp_path / "mine.ckpt", published(tiny_fiber()))
    model = build_backbone(BackboneSettings(kind="fiber", checkpoint=str(path), **common))
    assert (model.name, model.image_size, model.max_text_length) == (
        "FIBER, weights mine.ckpt",
        96,
        12,
    )
    assert model.tokenizer == "folder" and "10 adapted from 64 pixels" in model.report
    entries = published(tiny_fiber())
    del entries["vit_model.norm.weight"]
    saved(path, entries)
    model = build_backbone(BackboneSettings(kind="fiber", checkpoint=str(path), **common))
    assert model.name == "FIBER, weights mine.ckpt (entries missing: 1)"
    assert (
        build_backbone(BackboneSettings(kind="fiber_random", **common)).name
        == "FIBER, random weights"
    )
