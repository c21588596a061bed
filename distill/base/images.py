"""Images and class folders on disk."""

from pathlib import Path

from PIL import Image


def decode(file, name) -> Image.Image:
    """Decode an image file to RGB.

    Args:
        file: Open file.
        name: Called for the file's name if it cannot be decoded.

    Raises:
        ValueError: The file is truncated, damaged or no image.
    """
    try:
        with file:
            return Image.open(file).convert('RGB')
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"image '{name()}' cannot be decoded ({error}); replace or delete it") from None


def find_split(root: str, split: str) -> Path:
    """The folder or tar file of a split, under the names that timm also tries.

    Raises:
        FileNotFoundError: There is none.
    """
    if Path(root).is_file() and Path(root).suffix == '.tar':
        return Path(root)
    if not Path(root).is_dir():
        raise FileNotFoundError(f"data root '{root}' does not exist; make or unpack the data, or pass --data-root")
    synonyms = {'val': ['val', 'validation', 'test'], 'validation': ['validation', 'val', 'test']}
    for name in synonyms.get(split, [split]):
        if (Path(root) / name).is_dir():
            return Path(root) / name
        if (Path(root) / f'{name}.tar').is_file():
            return Path(root) / f'{name}.tar'
    found = ', '.join(sorted(p.name for p in Path(root).iterdir() if p.is_dir())[:8]) or 'no folder'
    raise FileNotFoundError(f"data root '{root}' has no folder '{split}' nor '{split}.tar'; found {found}")


def check_class_folders(folder: Path) -> list[str]:
    """The class folders of an image set, each of which must have an image.

    timm's reader leaves out empty folders, which would renumber the classes after them.

    Raises:
        ValueError: There is no class folder, or one is empty.
    """
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.'))
    if not classes:
        raise ValueError(f"'{folder}' has no class folders; expected {folder}/<class>/<image>")
    empty = [p.name for p in classes if not any(f.is_file() for f in p.rglob('*'))]
    if empty:
        raise ValueError(f"class folder '{folder / empty[0]}' has no image ({len(empty)} such); fill or delete it")
    return [p.name for p in classes]


MODES = ('RGB', 'L', 'CMYK', 'P', 'RGBA', 'LA', '1', 'YCbCr', 'PA')
"""What is shown in RGB: gray levels three times, CMYK by Pillow's formula. Others have more levels than 8 bits."""


MIN_SIDE_PX = 8
PROBLEMS = {'L': 'grayscale_images', 'CMYK': 'cmyk_images'}


def read_image(path) -> tuple[Image.Image, str]:
    """Decode an image to RGB.

    Returns:
        The image, and the mode that it is stored in, of `MODES`.

    Raises:
        ValueError: It cannot be decoded, has another mode, or shows nothing for want of pixels.
    """
    image = decode(path.open('rb'), lambda: path)
    with Image.open(path) as file:
        mode = file.mode
    if mode not in MODES:
        raise ValueError(f"image '{path}' is stored as {mode}, which does not fit 8 bits a channel; convert it")
    if min(image.size) < MIN_SIDE_PX:
        raise ValueError(
            f"image '{path}' has {image.width}x{image.height} pixels, and the least is {MIN_SIDE_PX}x{MIN_SIDE_PX}; "
            'replace or delete it'
        )
    return image, mode
