"""What the origin serves: the same bytes at each run."""

import hashlib
import json
import zlib
from pathlib import Path

KIB = 1024
SIZES = {"128B": 128, "1KiB": KIB, "64KiB": 64 * KIB, "1MiB": 1024 * KIB}
JSON = "32KiB.json"
JSON_SIZE = 32 * KIB
# Answers of real interfaces shrink so; a line over and over would shrink to nothing, and flatter a coder.
JSON_RATIO = (5, 8)

WORDS = (
    "adjustable amber bottle brushed cable canvas ceramic classic compact copper cotton desk double felt folding "
    "garden glass green handle heavy holder indoor kettle kitchen lamp large leather light linen magnetic marble "
    "matte metal mini mirror natural oak office outdoor oval paper pine plain portable rack recycled round set "
    "shelf silver slim small solid soft stand steel stone storage table tall travel tray walnut warm white wide wool"
).split()
WAREHOUSES = ("Antwerp", "Brno", "Gdansk", "Leipzig", "Lyon", "Porto")
TAGS = ("sale", "new", "bulky", "fragile", "gift", "refurbished", "last-items")


class Files:
    """A folder that the origin serves."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        for name, size in SIZES.items():
            (folder / name).write_bytes(noise(size))
        (folder / JSON).write_bytes(listing())

    def content(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def of_size(self, size: int) -> str:
        """The name of a file of so many bytes."""
        name = f"{size}-bytes"
        (self.folder / name).write_bytes(noise(size))
        return name


def noise(size: int) -> bytes:
    """Nothing that repeats within a buffer."""
    return b"".join(hashlib.sha256(block.to_bytes(4)).digest() for block in range(size // 32 + 1))[:size]


def listing() -> bytes:
    """A page of a shop's products as an interface answers with it: the same keys in each, other values."""
    products = []
    while len(_written(products)) < JSON_SIZE:
        products.append(_product(len(products)))
    products.pop()
    # The page ends where it must by one more value, of words too.
    room = JSON_SIZE - len(_written(products, ""))
    text = _written(products, " ".join(WORDS * (room // len(" ".join(WORDS)) + 1))[:room])
    shrinks_by = len(text) / len(zlib.compress(text, 6))
    if len(text) != JSON_SIZE or not JSON_RATIO[0] <= shrinks_by <= JSON_RATIO[1]:
        raise ValueError(f"the JSON has {len(text)} bytes and shrinks by {shrinks_by:.1f}")
    return text


def _written(products: list[dict], about: str | None = None) -> bytes:
    page = {"page": {"number": 1, "size": len(products), "next": "/api/v1/products?page=2"}, "products": products}
    if about is not None:
        page["about"] = about
    return json.dumps(page, separators=(",", ":")).encode()


def _product(number: int) -> dict:
    dice = _Dice(number)
    name = " ".join(dice.one_of(WORDS) for _ in range(2 + dice.below(2)))
    return {
        "id": 48_000 + number * 7 + dice.below(7),
        "sku": f"{name[:3].upper()}-{dice.below(10**6):06}",
        "name": name.capitalize(),
        "slug": name.replace(" ", "-"),
        "description": " ".join(dice.one_of(WORDS) for _ in range(4 + dice.below(6))).capitalize() + ".",
        "price": {"amount": f"{2 + dice.below(180)}.{dice.one_of(('00', '49', '90', '95'))}", "currency": "EUR"},
        "in_stock": dice.below(5) > 0,
        "inventory": [
            {"warehouse": warehouse, "quantity": dice.below(240)} for warehouse in WAREHOUSES if dice.below(2)
        ],
        "rating": {"average": round(2.5 + dice.below(26) / 10, 1), "count": dice.below(400)},
        "tags": [tag for tag in TAGS if dice.below(4) == 0],
        "image_url": f"https://images.example.com/products/{dice.below(16**8):08x}/large.jpg",
        "created_at": f"2026-{1 + dice.below(12):02}-{1 + dice.below(28):02}T{dice.below(24):02}:{dice.below(60):02}:00Z",
    }


class _Dice:
    """Numbers that depend on the seed alone, whatever the version of Python."""

    def __init__(self, seed: int):
        self._state = hashlib.sha256(seed.to_bytes(8)).digest()

    def below(self, limit: int) -> int:
        self._state = hashlib.sha256(self._state).digest()
        return int.from_bytes(self._state[:8]) % limit

    def one_of(self, choices: tuple | list):
        return choices[self.below(len(choices))]
