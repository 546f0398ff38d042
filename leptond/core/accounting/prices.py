"""Prices of GPU-hours: a dated table by model, prices of the configuration, and owned hardware. A model
without a price is reported in GPU-hours only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from leptond.base.section import NotNegative, Positive, Section


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A price per GPU-hour with its source and date. `micros`: millionths of `currency`."""

    model: str
    micros: int
    currency: str
    source: str
    as_of: str

    @property
    def per_hour(self) -> float:
        """Price in units of the currency."""
        return self.micros / 1e6


CURRENCY = "USD"
SOURCE = "RunPod's lower listed figure, seen at deploybase.ai"
AS_OF = "2026-03"

# The first match of NVML's name counts. H100 prices alone span 1.5 to 12 USD between sellers: a default is a
# starting point, so every amount is reported with its source and date.
_TABLE: tuple[tuple[str, str, int], ...] = (
    (r"RTX 3090(?! Ti)", "RTX 3090", 220_000),
    (r"RTX 4090(?! (D|Laptop))", "RTX 4090", 340_000),
    (r"RTX 5090(?! (D|Laptop))", "RTX 5090", 690_000),
    (r"\bL40S\b", "L40S", 790_000),
    (r"\bL40\b", "L40", 690_000),
    (r"\bL4\b", "L4", 440_000),
    (r"\bA100.*SXM.*80GB", "A100 SXM 80 GB", 1_390_000),
    (r"\bA100(-PCIE-80GB| 80GB PCIe)", "A100 PCIe 80 GB", 1_190_000),
    (r"\bH100 PCIe", "H100 PCIe 80 GB", 1_990_000),
    (r"\bH100 80GB HBM3", "H100 SXM 80 GB", 2_690_000),
    (r"\bH200\b", "H200 141 GB", 3_590_000),
    (r"\bB200\b", "B200", 5_980_000),
)


class Owned(Section, frozen=True, kw_only=True):
    """Owned hardware. `capex` of one GPU (its share of the machine included) is spread over `life_h` hours,
    of which the part `use` (0 to 1) is expected to be used; `kw`: its power draw; `opex`: other cost per
    hour."""

    capex: NotNegative
    life_h: Positive
    use: Annotated[float, Meta(gt=0, le=1)]
    kw: NotNegative = 0.0
    opex: NotNegative = 0.0


class Rates(Section, frozen=True, kw_only=True):
    """The prices of GPU time. `prices`: an hour of one GPU, by a part of its model's name; they come before
    the built-in table (`defaults`), which is in USD. `currency` is that of every amount; `source` and
    `as_of` (a date) are printed beside each price of yours. `owned`: hardware of your own, by a part of its
    model's name: `capex`, `life_h` (hours), `use` (the part of them in use, 0 to 1), `kw`, `opex` (an hour);
    an hour of it costs capex / (life_h * use) + kw * pue * tariff + opex. `tariff`: a kWh (0: not known, no
    energy costs are shown); `pue`: what the building draws for each watt of the machine. `detail_days`: how
    long the ledger can tell single jobs from each other; after it, sums by the day remain."""

    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")] = CURRENCY
    prices: Mapping[str, NotNegative] = {}
    source: str = "the configuration"
    as_of: str = ""
    defaults: bool = True
    owned: Mapping[str, Owned] = {}
    tariff: NotNegative = 0.0
    pue: Annotated[float, Meta(ge=1)] = 1.0
    detail_days: Annotated[int, Meta(ge=2, le=36500)] = 90


def owned_per_hour(one: Owned, *, tariff: float, pue: float) -> float:
    """Return the cost of an hour of owned hardware: capex / (life * use) + kW * PUE * tariff + opex.

    >>> round(owned_per_hour(Owned(capex=30_000, life_h=40_000, use=0.75, kw=0.7), tariff=0.2, pue=1.5), 4)
    1.21
    """
    return one.capex / (one.life_h * one.use) + one.kw * pue * tariff + one.opex


def price_of(name: str, rates: Rates) -> Listed | None:
    """Return the price of a GPU by its NVML name; None where none is known. Slices (MIG) and simulated
    devices have one only if the configuration gives it.

    >>> price_of("NVIDIA H100 80GB HBM3", Rates()).per_hour
    2.69
    >>> price_of("Tesla T4", Rates()) is None
    True
    """
    own = _longest(name, rates.owned)
    if own is not None:
        one = rates.owned[own]
        words = f"owned: {one.capex:g} over {one.life_h:g} h at {one.use:.0%} use, plus power and upkeep"
        return Listed(
            model=own,
            micros=round(owned_per_hour(one, tariff=rates.tariff, pue=rates.pue) * 1e6),
            currency=rates.currency,
            source=words,
            as_of=rates.as_of,
        )
    said = _longest(name, rates.prices)
    if said is not None:
        return Listed(
            model=said,
            micros=round(rates.prices[said] * 1e6),
            currency=rates.currency,
            source=rates.source,
            as_of=rates.as_of,
        )
    if not rates.defaults or rates.currency != CURRENCY or " MIG " in name:
        return None
    for pattern, model, micros in _TABLE:
        if re.search(pattern, name):
            return Listed(model=model, micros=micros, currency=CURRENCY, source=SOURCE, as_of=AS_OF)
    return None


def _longest(name: str, by_part: Mapping[str, object]) -> str | None:
    parts = [part for part in by_part if part.lower() in name.lower()]
    return max(parts, key=len) if parts else None


J_PER_KWH = 3.6e6


def energy_cost(joules: float, rates: Rates) -> float | None:
    """Return the cost of energy; None without a tariff. Not to be added to a rent, which includes it.

    >>> energy_cost(7.2e6, Rates(tariff=0.15, pue=1.5))
    0.45
    """
    return round(joules / J_PER_KWH * rates.pue * rates.tariff, 9) if rates.tariff > 0 else None
