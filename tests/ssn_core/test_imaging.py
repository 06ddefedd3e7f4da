"""Image files of every kind and condition, and what becomes of them."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssn_core.errors import ImageError
from ssn_core.imaging import MAX_PIXELS, decode, decode_mask, load_rgb


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def picture(width: int = 40, height: int = 24, mode: str = "RGB") -> Image.Image:
    """Smooth in both directions, so that truncation and rotation show."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 255 // width, y * 255 // height, (x + y) * 3 % 256], axis=-1).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, bits: int, colour: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(pixels)) if pixels else b""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body + png_chunk(b"IEND", b"")


def tiff_of(tags: dict[int, tuple[int, int]], pixels: bytes, *, width: int, height: int) -> bytes:
    """A little-endian, uncompressed TIFF: tag -> (type, value) on top of the usual ones."""
    entries = {256: (4, width), 257: (4, height), 259: (3, 1), 277: (3, 1), 278: (4, height), 279: (4, len(pixels))}
    entries = dict(sorted({**entries, 273: (4, 8), **tags}.items()))
    ifd = struct.pack("<H", len(entries))
    for tag, (kind, value) in entries.items():
        ifd += struct.pack("<HHII", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + ifd + b"\0\0\0\0"


LOSSLESS = {"PNG": ".png", "BMP": ".bmp", "TIFF": ".tif", "PPM": ".ppm"}


# Formats


@pytest.mark.parametrize(("file_format", "extension"), LOSSLESS.items())
def test_lossless_formats_keep_every_pixel(file_format: str, extension: str) -> None:
    found = decode(encoded(picture(), file_format))
    assert (found.format, found.extension, found.width, found.height) == (file_format, extension, 40, 24)
    assert found.notes == ()
    np.testing.assert_array_equal(np.asarray(found.rgb), np.asarray(picture()))


@pytest.mark.parametrize(
    ("file_format", "extension", "options"),
    [("JPEG", ".jpg", {"quality": 95}), ("WEBP", ".webp", {"lossless": True}), ("JPEG2000", ".jp2", {})],
)
def test_other_formats_are_read(file_format: str, extension: str, options: dict[str, Any]) -> None:
    found = decode(encoded(picture(), file_format, **options))
    assert (found.format, found.extension) == (file_format, extension)
    assert np.abs(np.asarray(found.rgb, dtype=int) - np.asarray(picture(), dtype=int)).mean() < 6


def test_the_content_decides_the_format_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(picture(), "PNG"))
    assert decode(path).extension == ".png"


def test_bytes_and_path_give_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(encoded(picture(), "TIFF", compression="tiff_lzw"))
    np.testing.assert_array_equal(np.asarray(decode(path).rgb), np.asarray(decode(path.read_bytes()).rgb))


def test_metadata_does_not_travel_with_the_pixels() -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken by a person with a name"
    found = decode(encoded(picture(), "JPEG", exif=exif, icc_profile=b"x" * 200))
    assert found.rgb.info == {}
    assert b"person" not in encoded(found.rgb, "PNG")


# Depth and colour


def test_16_bit_grey_png_is_scaled_by_one_fixed_factor() -> None:
    values = np.array([[0, 128, 129, 257, 1000, 25700, 65535]], dtype=np.uint16)
    found = decode(encoded(Image.fromarray(values), "PNG"))
    assert np.asarray(found.rgb)[0, :, 0].tolist() == [0, 0, 1, 1, 4, 100, 255]
    assert found.notes == ("16-bit scaled to 8-bit",)


@pytest.mark.parametrize("compression", ["raw", "tiff_deflate"])
def test_a_dark_16_bit_tiff_stays_dark(compression: str) -> None:
    values = np.full((4, 6), 2570, dtype=np.uint16)
    found = decode(encoded(Image.fromarray(values), "TIFF", compression=compression))
    assert np.unique(np.asarray(found.rgb)).tolist() == [10]


def test_big_endian_16_bit_tiff_is_read() -> None:
    pixels = struct.pack(">4H", 0, 257, 25700, 65535)
    shorts = {258: 16, 259: 1, 262: 1, 273: 8, 277: 1}
    ifd = struct.pack(">H", 8)
    for tag, value in sorted({256: 4, 257: 1, **shorts, 279: 8}.items()):
        ifd += struct.pack(">HHIHH", tag, 3, 1, value, 0)
    found = decode(b"MM\0*" + struct.pack(">I", 16) + pixels + ifd + b"\0\0\0\0")
    assert np.asarray(found.rgb)[0, :, 0].tolist() == [0, 1, 100, 255]


def test_16_bit_tiff_whose_zero_is_white_is_not_read_as_a_negative() -> None:
    pixels = struct.pack("<3H", 0, 65535, 257)
    found = decode(tiff_of({258: (3, 16), 262: (3, 0)}, pixels, width=3, height=1))
    assert np.asarray(found.rgb)[0, :, 0].tolist() == [255, 0, 254]


def test_12_bit_tiff_is_scaled_by_its_own_fixed_range() -> None:
    pixels = bytes([0xFF, 0xF0, 0x00])  # 4095, 0
    found = decode(tiff_of({258: (3, 12), 262: (3, 1)}, pixels, width=2, height=1))
    assert np.asarray(found.rgb)[0, :, 0].tolist() == [255, 0]
    assert found.notes == ("12-bit scaled to 8-bit",)


def test_16_bit_pgm_is_scaled() -> None:
    found = decode(b"P5 2 1 65535\n" + struct.pack(">2H", 25700, 65535))
    assert np.asarray(found.rgb)[0, :, 0].tolist() == [100, 255]


def test_16_bit_colour_png_is_noted() -> None:
    pixels = b"\0" + struct.pack(">6H", 0, 25700, 65535, 65535, 0, 25700)
    found = decode(png_of(2, 1, 16, 2, pixels))
    assert np.asarray(found.rgb)[0].tolist() == [[0, 100, 255], [255, 0, 100]]
    assert found.notes == ("16-bit scaled to 8-bit",)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_of_unknown_range_are_refused(dtype: type) -> None:
    data = encoded(Image.fromarray(np.zeros((4, 4), dtype=dtype)), "TIFF")
    with pytest.raises(ImageError, match="range is not known"):
        decode(data)


def test_cmyk_jpeg_becomes_rgb() -> None:
    found = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = np.asarray(found.rgb)[4, 4]
    assert red > 240
    assert max(green, blue) < 15
    assert "CMYK converted to RGB" in found.notes


def test_lab_tiff_becomes_rgb() -> None:
    found = decode(encoded(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF"))
    assert np.asarray(found.rgb).min() > 245


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_bilevel_and_palette_become_rgb(mode: str) -> None:
    expected = picture(mode=mode).convert("RGB")
    np.testing.assert_array_equal(np.asarray(decode(encoded(picture(mode=mode), "PNG")).rgb), np.asarray(expected))


def test_alpha_is_flattened_onto_black_and_noted() -> None:
    found = decode(encoded(Image.new("RGBA", (3, 3), (200, 100, 50, 128)), "PNG"))
    assert np.asarray(found.rgb)[0, 0].tolist() == [100, 50, 25]
    assert found.notes == ("alpha flattened onto black",)


def test_grey_with_alpha_is_flattened_too() -> None:
    found = decode(encoded(Image.new("LA", (3, 3), (200, 0)), "PNG"))
    assert np.asarray(found.rgb).max() == 0


def test_an_opaque_alpha_channel_changes_nothing_and_is_not_noted() -> None:
    image = picture()
    image.putalpha(255)
    found = decode(encoded(image, "PNG"))
    np.testing.assert_array_equal(np.asarray(found.rgb), np.asarray(picture()))
    assert found.notes == ()


def test_the_transparent_colour_of_a_palette_png_becomes_black() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    found = decode(encoded(image, "PNG", transparency=0))
    assert np.asarray(found.rgb)[0].tolist() == [[0, 0, 0], [0, 255, 0]]
    assert found.notes == ("alpha flattened onto black",)


# Orientation

TURNS: dict[int, Any] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(picture(), file_format, exif=exif))
    expected = TURNS[orientation](np.asarray(picture()))
    np.testing.assert_array_equal(np.asarray(found.rgb), expected)
    assert (found.height, found.width) == expected.shape[:2]
    assert found.notes == (() if orientation == 1 else ("rotated by EXIF",))


def test_a_jpeg_from_a_phone_held_upright_comes_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode(encoded(picture(40, 24), "JPEG", exif=exif))
    assert found.rgb.size == (found.width, found.height) == (24, 40)


def test_broken_exif_does_not_cost_the_image() -> None:
    found = decode(encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f garbage"))
    assert found.rgb.size == (40, 24)


def test_a_nonsense_orientation_is_left_alone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert decode(encoded(picture(), "JPEG", exif=exif)).notes == ()


# Frames


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_and_multipage_files_are_refused_with_their_count(file_format: str) -> None:
    frames = [Image.new("RGB", (8, 8), (80 * i, 0, 0)) for i in range(3)]
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="holds 3 frames"):
        decode(data)
    with pytest.raises(ImageError, match="holds 3 frames"):
        decode_mask(data, size=None)


def test_a_gif_of_one_frame_is_an_image() -> None:
    found = decode(encoded(Image.new("P", (8, 8), 0), "GIF"))
    assert (found.format, found.extension) == ("GIF", ".gif")


def test_of_an_mpo_file_the_first_picture_is_taken() -> None:
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 250))
    found = decode(encoded(first, "MPO", save_all=True, append_images=[second]))
    assert (found.format, found.extension) == ("MPO", ".jpg")
    assert np.asarray(found.rgb)[0, 0, 0] > 200
    assert found.notes == ("first picture of an MPO file",)


def test_an_endless_chain_of_tiff_pages_is_counted_only_so_far() -> None:
    page = encoded(Image.new("L", (1, 1)), "TIFF")
    first_ifd = struct.unpack("<I", page[4:8])[0]
    entries = struct.unpack("<H", page[first_ifd : first_ifd + 2])[0]
    link = first_ifd + 2 + 12 * entries
    chain = bytearray(page[:link] + struct.pack("<I", len(page)) + page[link + 4 :])
    body = page[first_ifd:link]
    for _ in range(1500):
        chain += body + struct.pack("<I", len(chain) + len(body) + 4)
    with pytest.raises(ImageError, match="1000 or more"):
        decode(bytes(chain))


# Size


def test_a_header_that_claims_400_megapixels_is_refused_before_decoding() -> None:
    with pytest.raises(ImageError, match=r"too large.*at most 100 megapixels"):
        decode(png_of(20000, 20000, 8, 2, b""), name="bomb.png")


def test_a_header_between_one_and_two_limits_is_refused_with_its_size() -> None:
    with pytest.raises(ImageError, match="12000 x 12000 = 144 megapixels"):
        decode(png_of(12000, 12000, 8, 2, b""))


def test_a_deep_bomb_is_refused_quickly_and_in_little_memory() -> None:
    """Some 400 kB that unfold to 400 MB: 20000 x 20000 grey zeros. Measured in a process of its own."""
    code = (
        "import struct, sys, zlib\n"
        "from ssn_core.imaging import decode\n"
        "from ssn_core.errors import ImageError\n"
        "chunk = lambda k, b: struct.pack('>I', len(b)) + k + b + struct.pack('>I', zlib.crc32(k + b))\n"
        "packer = zlib.compressobj()\n"
        "row = bytes(20001)\n"
        "body = b''.join(packer.compress(row) for _ in range(20000)) + packer.flush()\n"
        "head = struct.pack('>IIBBBBB', 20000, 20000, 8, 0, 0, 0, 0)\n"
        "data = b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', head) + chunk(b'IDAT', body) + chunk(b'IEND', b'')\n"
        "try:\n    decode(data)\nexcept ImageError as error:\n    print(error)\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(len(data), peak.split()[1])\n"  # not ru_maxrss: that is inherited from the process that runs the tests
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process's memory is read from /proc")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    message, numbers = done.stdout.strip().splitlines()
    size, peak_kib = map(int, numbers.split())
    assert "too large" in message
    assert size < 1_000_000
    assert peak_kib < 200_000


def test_compressed_text_and_profiles_cannot_unfold_without_end() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    plain = encoded(picture(), "PNG")
    for kind, body in [(b"zTXt", b"k\0\0" + bomb), (b"iCCP", b"p\0\0" + bomb)]:
        data = plain[:33] + png_chunk(kind, body) + plain[33:]
        try:
            found = decode(data)
        except ImageError:
            continue
        assert found.rgb.size == (40, 24)


def test_no_warning_of_a_large_image_leaks() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ImageError):
            decode(png_of(MAX_PIXELS // 10_000 + 1, 10_000, 8, 0, b""))
    assert caught == []


# Damage and strangers


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {"compression": "raw"}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
    ],
)
def test_truncated_files_are_refused(file_format: str, options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), file_format, **options)
    for kept in (len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(ImageError, match="damaged or cut short"):
            decode(data[:kept])


def test_the_reason_names_the_file_and_what_to_expect() -> None:
    with pytest.raises(ImageError) as caught:
        decode(encoded(picture(), "JPEG")[:300], name="kos01/Part0.jpg")
    assert str(caught.value) == (
        "The JPEG file is damaged or cut short: 'kos01/Part0.jpg'. Expected a complete image file."
    )


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(ImageError, match=r"is empty: 'empty\.png'"):
        decode(path)
    with pytest.raises(ImageError, match="is empty"):
        decode(b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"these are my notes, renamed", "not an image"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"\0\0\x01\0\x01\0\x10\x10", "an icon"),
        (b"8BPS\0\x01", "a Photoshop document"),
        (b"PK\x03\x04\x14\0", "a zip archive"),
    ],
)
def test_other_files_are_refused_by_their_kind(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(data, name="photo.jpg")


@pytest.mark.parametrize("file_format", ["ICO", "TGA", "PCX", "EPS", "PDF", "SGI", "AVIF"])
def test_formats_that_pillow_reads_but_we_do_not_are_refused(file_format: str) -> None:
    with pytest.raises(ImageError):
        decode(encoded(picture(32, 32), file_format))


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"does not exist: 'gone\.png'"):
        decode(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="not a regular file"):
        decode(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(ImageError, match="not a regular file"):
            decode(tmp_path / "pipe.png")


def test_a_file_name_too_long_for_the_disk_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        decode(tmp_path / ("x" * 5000))


SAMPLES = [
    encoded(picture(12, 9), "PNG"),
    encoded(picture(12, 9, "P"), "PNG"),
    encoded(picture(12, 9), "JPEG"),
    encoded(picture(12, 9), "TIFF", compression="tiff_lzw"),
    encoded(picture(12, 9), "TIFF", compression="raw"),
    encoded(picture(12, 9, "P"), "GIF"),
    encoded(picture(12, 9), "WEBP"),
    encoded(picture(12, 9), "BMP"),
    encoded(picture(12, 9), "PPM"),
    encoded(picture(12, 9), "JPEG2000"),
]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_image_errors(data: bytes) -> None:
    for read in (decode, lambda raw: decode_mask(raw, size=None)):
        with suppress(ImageError):
            read(data)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), max_size=4),
    st.integers(0, 2000),
)
def test_mutilated_images_raise_nothing_but_image_errors(
    data: bytes, scars: list[tuple[int, bytes]], kept: int
) -> None:
    raw = bytearray(data)
    for position, scar in scars:
        at = position % len(raw)
        raw[at : at + len(scar)] = scar
    with suppress(ImageError):
        found = decode(bytes(raw[: max(kept, 8)]))
        assert found.rgb.mode == "RGB"
        assert found.rgb.size == (found.width, found.height)


# Masks


def defect(dtype: type = np.uint8, value: int = 1) -> np.ndarray:
    mask = np.zeros((6, 10), dtype=dtype)
    mask[2:4, 3:7] = value
    return mask


@pytest.mark.parametrize(("dtype", "value"), [(np.uint8, 1), (np.uint8, 255), (np.uint16, 1), (np.int32, 7)])
def test_any_value_but_zero_is_defect(dtype: type, value: int) -> None:
    data = encoded(Image.fromarray(defect(dtype, value)), "TIFF")
    mask = decode_mask(data, size=(6, 10))
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, defect().astype(bool))


@pytest.mark.parametrize("file_format", ["PNG", "BMP"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_masks_of_every_mode_are_read(mode: str, file_format: str) -> None:
    image = Image.fromarray(defect(value=255)).convert(mode)
    np.testing.assert_array_equal(decode_mask(encoded(image, file_format), size=(6, 10)), defect().astype(bool))


def test_an_opaque_black_mask_with_alpha_is_empty() -> None:
    assert not decode_mask(encoded(Image.new("RGBA", (10, 6), (0, 0, 0, 255)), "PNG"), size=(6, 10)).any()


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    data = encoded(Image.fromarray(defect()), "PNG")
    with pytest.raises(ImageError, match=r"\(10 x 6 pixels\): 'm.png'. Expected 6 x 10 pixels"):
        decode_mask(data, size=(10, 6), name="m.png")


def test_a_16_bit_colour_mask_is_refused_rather_than_read_in_part() -> None:
    pixels = b"\0" + struct.pack(">3H", 1, 1, 1)
    with pytest.raises(ImageError, match="16-bit colour"):
        decode_mask(png_of(1, 1, 16, 2, pixels), size=None)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_a_mask_is_turned_like_its_image(file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = decode_mask(encoded(Image.fromarray(defect()), file_format, exif=exif), size=(10, 6))
    np.testing.assert_array_equal(mask, np.rot90(defect().astype(bool), -1))


def test_a_mask_can_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(encoded(Image.fromarray(defect()), "PNG"))
    decode_mask(tmp_path / "m.png", size=None)[0, 0] = True


# Pixels for the network


def test_load_rgb_gives_the_size_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(40, 24), "PNG"))
    pixels = load_rgb(path, image_size=(12, 30))
    assert (pixels.shape, pixels.dtype) == ((12, 30, 3), np.uint8)
    np.testing.assert_array_equal(load_rgb(path, image_size=(24, 40)), np.asarray(picture(40, 24)))


def test_load_rgb_shrinks_with_antialiasing(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::2] = 255
    path = tmp_path / "stripes.png"
    path.write_bytes(encoded(Image.fromarray(stripes), "PNG"))
    inner = load_rgb(path, image_size=(8, 8))[1:-1, 1:-1].astype(int)
    assert np.abs(inner - 127).max() < 8  # without antialiasing the stripes would stay black or white


def test_importing_the_module_does_not_import_torch() -> None:
    code = "import sys, ssn_core.imaging, ssn_core.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
