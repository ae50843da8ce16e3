"""Images: decoding whatever the file is, the transforms of evaluation and training, each operation
against a hand calculation."""

import io
import itertools
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from i2m2.errors import DataError
from VQA_and_NLVR2.inputs.augment import (
    DEGREES,
    FACTOR,
    OPERATIONS,
    PIXELS,
    SHEAR,
    crop_box,
    rand_augment,
    training_transform,
)
from VQA_and_NLVR2.inputs.images import evaluation_transform, load_rgb, normalise_images

HEIGHT, WIDTH = 40, 50


@pytest.fixture(scope="module")
def photo():
    """uint8 [40, 50, 3]: smooth, with all grey levels, and noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    smooth = np.stack([5 * x, 6 * y, 255 - 3 * (x + y)], axis=-1) + rng.integers(
        -30, 30, (HEIGHT, WIDTH, 3)
    )
    return np.clip(smooth, 0, 255).astype(np.uint8)


def save(path, image, **how):
    image.save(path, **how)
    return path


def hwc(tensor):
    assert tensor.dtype == torch.uint8
    return tensor.permute(1, 2, 0).numpy()


def test_content_decides_not_the_name(photo, tmp_path):
    path = save(tmp_path / "named.jpg", Image.fromarray(photo), format="png")
    np.testing.assert_array_equal(np.array(load_rgb(path)), photo)
    path = save(tmp_path / "photo.png", Image.fromarray(photo), format="jpeg", quality=95)
    assert (
        load_rgb(path).size == (WIDTH, HEIGHT)
        and np.abs(np.array(load_rgb(path)).astype(int) - photo).mean() < 12
    )


def test_every_kind_of_pixel_becomes_rgb(photo, tmp_path):
    grey = Image.fromarray(photo[..., 0])
    expected = np.repeat(photo[..., :1], 3, axis=2)
    np.testing.assert_array_equal(np.array(load_rgb(save(tmp_path / "grey.png", grey))), expected)
    deep = Image.fromarray(photo[..., 0].astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    np.testing.assert_array_equal(np.array(load_rgb(save(tmp_path / "deep.png", deep))), expected)
    bits = Image.fromarray(photo[..., 0] > 99)
    assert set(np.unique(load_rgb(save(tmp_path / "bits.png", bits)))) == {0, 255}
    palette = grey.convert("P")
    np.testing.assert_array_equal(
        np.array(load_rgb(save(tmp_path / "palette.gif", palette))),
        np.array(palette.convert("RGB")),
    )
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    red = np.array(load_rgb(save(tmp_path / "cmyk.jpg", cmyk))).reshape(-1, 3)
    assert (red[:, 0] > 250).all() and (red[:, 1:] < 5).all()


def test_transparent_pixels_are_white_as_on_a_page(tmp_path):
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = 0, 51, 255  # black behind no, a fifth, and all of the paint
    path = save(tmp_path / "alpha.png", Image.fromarray(pixels))
    assert np.array(load_rgb(path))[0, :, 0].tolist() == [255, 204, 0]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    path = save(tmp_path / "palette.png", palette, transparency=0)
    assert np.array(load_rgb(path)).tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_of_16_bits_keeps_its_upper_byte_and_what_is_transparent_is_white(
    tmp_path, ending, order
):
    values = np.array([[258, 25_600, 65_535]], f"{order}u2")
    image = Image.frombytes("I;16" if order == "<" else "I;16B", (3, 1), values.tobytes())
    path = save(tmp_path / f"deep.{ending}", image)
    assert np.array(load_rgb(path))[0, :, 0].tolist() == [1, 100, 255]
    image = Image.fromarray(values.astype(np.uint16))
    path = save(tmp_path / "clear.png", image, transparency=258)
    assert np.array(load_rgb(path))[0, :, 0].tolist() == [255, 100, 255]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_grey_whose_white_is_not_known_is_refused(tmp_path, kind):
    path = save(tmp_path / "wide.tif", Image.fromarray(np.array([[1, 70_000]], kind)))
    with pytest.raises(DataError, match="wide.tif: has grey of 32 bits.* save it with 8 or 16"):
        load_rgb(path)


def test_exif_orientation_leaves_the_pixels_as_stored(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "turned.png", Image.fromarray(photo), exif=exif)
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == 6
    np.testing.assert_array_equal(np.array(load_rgb(path)), photo)


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "bmp"])
def test_a_truncated_image_is_an_error_that_names_it(photo, tmp_path, kind):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, kind)
    path = tmp_path / "photo.jpg"
    for length in (0, 3, 40, len(buffer.getvalue()) // 2):
        path.write_bytes(buffer.getvalue()[:length])
        with pytest.raises(DataError, match=r"photo.jpg: no readable image") as error:
            load_rgb(path)
        assert "\n" not in str(error.value) and str(error.value).count("photo.jpg") == 1
    path.write_bytes(buffer.getvalue()[:20] + b"\0" * 20)
    with pytest.raises(DataError, match="photo.jpg"):
        load_rgb(path)
    with pytest.raises(DataError, match="nowhere.jpg: no such image"):
        load_rgb(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match="no readable image"):
        load_rgb(tmp_path)


def cubic(size_in, size_out):
    """[out, in] weights of bicubic resizing (a = -0.5) whose kernel widens with the reduction, as
    Pillow's does."""
    scale = size_in / size_out
    wide = max(scale, 1)
    centre = (np.arange(size_out)[:, None] + 0.5) * scale - 0.5
    d = np.abs((np.arange(size_in) - centre) / wide)
    weight = np.where(
        d < 1, 1.5 * d**3 - 2.5 * d**2 + 1, np.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0)
    )
    return weight / weight.sum(axis=1, keepdims=True)


def test_a_large_image_is_read_without_a_warning_and_a_larger_one_refused(tmp_path):
    Image.new("1", (9500, 9500)).save(tmp_path / "large.png")
    Image.new("1", (13500, 13500)).save(tmp_path / "larger.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_rgb(tmp_path / "large.png").size == (9500, 9500)
    line = "larger.png: 13500 x 13500 pixels are more than .*178,956,970; put a smaller copy"
    with pytest.raises(DataError, match=line):
        load_rgb(tmp_path / "larger.png")


@pytest.mark.parametrize("side", [16, 32, 96])
def test_evaluation_transform_is_bicubic_with_antialiasing_and_ignores_the_aspect(photo, side):
    resized = evaluation_transform(torch.from_numpy(photo).permute(2, 0, 1), side)
    assert resized.shape == (3, side, side)
    # Pillow resizes the rows first, and rounds and clips in between.
    rows = np.clip(
        np.rint(np.einsum("ow,hwc->hoc", cubic(WIDTH, side), photo.astype(float))), 0, 255
    )
    expected = np.clip(np.einsum("oh,hwc->owc", cubic(HEIGHT, side), rows), 0, 255)
    assert np.abs(hwc(resized) - expected).max() <= 1
    np.testing.assert_array_equal(
        hwc(resized), hwc(evaluation_transform(Image.fromarray(photo), side))
    )


def test_normalising_by_hand():
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    found = normalise_images(images, mean=(0.5, 0.25, 0.2), std=(0.5, 0.25, 1))
    torch.testing.assert_close(found.flatten(), torch.tensor([-1.0, 3.0, 0.0]))
    assert normalise_images(images).dtype == torch.float32 and images.dtype == torch.uint8
    torch.testing.assert_close(normalise_images(images).flatten()[0], torch.tensor(-0.485 / 0.229))


def apply(name, array, sign=1):
    return np.asarray(OPERATIONS[name](Image.fromarray(array), sign))


def test_pool_is_the_published_one():
    assert len(OPERATIONS) == 10
    np.testing.assert_allclose([FACTOR, SHEAR, PIXELS, DEGREES], [1.36, 0.21, 7, 21])


def test_identity_and_brightness(photo):
    np.testing.assert_array_equal(apply("identity", photo), photo)
    np.testing.assert_array_equal(
        apply("brightness", photo), np.minimum(photo.astype(int) * 136 // 100, 255)
    )


def test_auto_contrast_stretches_each_channel_to_the_whole_range():
    dull = np.stack([np.arange(50, 150), np.arange(100), np.full(100, 9)], axis=-1).astype(
        np.uint8
    )[None]
    stretched = apply("auto_contrast", dull)
    for channel in (0, 1):
        assert stretched[0, 0, channel] == 0
        assert (
            np.abs(stretched[0, :, channel] - np.arange(100) * 255 / 99).max() <= 1
        )  # cut off, not rounded
    assert (stretched[..., 2] == 9).all()  # one level only: as it was


def test_equalise_by_the_histogram(photo):
    found = apply("equalise", photo)
    for channel in range(3):
        counts = np.bincount(photo[..., channel].ravel(), minlength=256)
        step = (counts.sum() - counts[counts > 0][-1]) // 255
        table = (step // 2 + np.cumsum(counts) - counts) // step
        np.testing.assert_array_equal(
            found[..., channel], np.minimum(table, 255)[photo[..., channel]]
        )


def test_sharpness_blends_with_a_smoothing_and_spares_the_border(photo):
    x = photo.astype(float)
    smooth = x.copy()
    inner = x[1:-1, 1:-1]
    total = 4 * inner
    for i, j in itertools.product((-1, 0, 1), repeat=2):
        total = total + x[1 + i : HEIGHT - 1 + i, 1 + j : WIDTH - 1 + j]
    smooth[1:-1, 1:-1] = np.floor(total / 13 + 0.5)
    np.testing.assert_array_equal(
        np.asarray(Image.fromarray(photo).filter(ImageFilter.SMOOTH)), smooth
    )
    found = apply("sharpness", photo)
    assert np.abs(found - np.clip(smooth + 1.36 * (x - smooth), 0, 255)).max() <= 1
    border = np.ones((HEIGHT, WIDTH), bool)
    border[1:-1, 1:-1] = False
    np.testing.assert_array_equal(found[border], photo[border])


@pytest.mark.parametrize("sign", [1, -1])
def test_translations_move_by_seven_pixels_and_fill_with_grey(photo, sign):
    for name, turn in (("translate_x", photo), ("translate_y", photo.transpose(1, 0, 2))):
        found = (
            apply(name, photo, sign)
            if turn is photo
            else apply(name, photo, sign).transpose(1, 0, 2)
        )
        kept, filled = (np.s_[:, :-7], np.s_[:, -7:]) if sign > 0 else (np.s_[:, 7:], np.s_[:, :7])
        np.testing.assert_array_equal(found[kept], turn[:, 7:] if sign > 0 else turn[:, :-7])
        assert (found[filled] == 128).all()


COS, SIN = np.cos(np.radians(21)), np.sin(np.radians(21))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["shear_x", "shear_y", "rotate"])
def test_shears_and_rotation_sample_where_they_should(photo, name, sign):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    dx, dy = x - WIDTH / 2, y - HEIGHT / 2
    sx, sy = {
        "shear_x": (x + sign * 0.21 * y, y),
        "shear_y": (x, y + sign * 0.21 * x),
        "rotate": (WIDTH / 2 + COS * dx - sign * SIN * dy, HEIGHT / 2 + sign * SIN * dx + COS * dy),
    }[name]
    found = apply(name, photo, sign)
    inside = (sx >= 0) & (sx < WIDTH - 1) & (sy >= 0) & (sy < HEIGHT - 1)
    x0, y0 = np.floor(sx[inside]).astype(int), np.floor(sy[inside]).astype(int)
    fx, fy = (sx[inside] - x0)[:, None], (sy[inside] - y0)[:, None]
    at = photo.astype(float)
    top = (1 - fx) * at[y0, x0] + fx * at[y0, x0 + 1]
    bottom = (1 - fx) * at[y0 + 1, x0] + fx * at[y0 + 1, x0 + 1]
    assert inside.mean() > 0.7
    assert np.abs(found[inside] - ((1 - fy) * top + fy * bottom)).max() < 1.01
    outside = (sx < -1) | (sx > WIDTH) | (sy < -1) | (sy > HEIGHT)
    assert outside.any() and (found[outside] == 128).all()


def test_two_operations_are_drawn_and_each_is_applied_half_of_the_time(monkeypatch, photo):
    calls = []
    for name in list(OPERATIONS):
        monkeypatch.setitem(
            OPERATIONS, name, lambda image, sign, name=name: calls.append((name, sign)) or image
        )
    rng = np.random.default_rng(0)
    for _ in range(2000):
        rand_augment(Image.fromarray(photo), rng)
    share = {name: sum(call[0] == name for call in calls) / 2000 for name in OPERATIONS}
    assert all(abs(value - 0.1) < 0.03 for value in share.values())  # 2 x 0.5 / 10
    assert abs(np.mean([sign for _, sign in calls])) < 0.1


def test_crops_have_the_published_areas_and_aspects():
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box(640, 480, rng) for _ in range(2000)])
    left, top, width, height = boxes.T
    area, aspect = width * height / (640 * 480), width / height
    assert area.min() > 0.49 and area.max() <= 1.001 and aspect.min() > 0.74 and aspect.max() < 1.34
    assert (
        (left >= 0).all()
        and (top >= 0).all()
        and (left + width <= 640).all()
        and (top + height <= 480).all()
    )
    assert crop_box(1000, 100, rng) == (433, 0, 133, 100) and crop_box(90, 600, rng) == (
        0,
        240,
        90,
        120,
    )


def test_the_key_alone_decides_and_only_flip_mirrors(photo):
    image = torch.from_numpy(photo).permute(2, 0, 1)
    first = training_transform(image, 32, (0, 0, 17))
    assert first.shape == (3, 32, 32) and first.dtype == torch.uint8
    torch.manual_seed(1)
    np.random.seed(1)
    assert torch.equal(first, training_transform(Image.fromarray(photo), 32, (0, 0, 17)))
    others = [training_transform(image, 32, key) for key in ((1, 0, 17), (0, 1, 17), (0, 0, 18))]
    assert not any(torch.equal(first, other) for other in others)


def test_half_of_the_images_are_mirrored_if_asked_for(monkeypatch, photo):
    monkeypatch.setattr("VQA_and_NLVR2.inputs.augment.rand_augment", lambda image, rng: image)
    image = torch.from_numpy(photo).permute(2, 0, 1)
    mirrored = 0
    for key in range(200):
        plain, flipped = (
            training_transform(image, 32, (key,), flip=flip) for flip in (False, True)
        )
        mirrored += (same := torch.equal(flipped, plain.flip(2)))
        assert same or torch.equal(flipped, plain)
    assert 70 < mirrored < 130
