"""Prices by NVML's names."""

import pytest

from leptond.core.accounting.prices import Owned, Rates, energy_cost, owned_per_hour, price_of

NAMES = [
    ("NVIDIA GeForce RTX 3090", 0.22),
    ("NVIDIA GeForce RTX 3090 Ti", None),
    ("NVIDIA GeForce RTX 4090", 0.34),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
    ("NVIDIA GeForce RTX 5090", 0.69),
    ("NVIDIA L4", 0.44),
    ("NVIDIA L40", 0.69),
    ("NVIDIA L40S", 0.79),
    ("NVIDIA A100-SXM4-80GB", 1.39),
    ("NVIDIA A100 80GB PCIe", 1.19),
    ("NVIDIA A100-SXM4-40GB", None),
    ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
    ("NVIDIA H100 PCIe", 1.99),
    ("NVIDIA H100 80GB HBM3", 2.69),
    ("NVIDIA H200", 3.59),
    ("NVIDIA B200", 5.98),
    ("Tesla T4", None),
    ("Tesla V100-SXM2-16GB", None),
    ("NVIDIA A10", None),
    ("Simulated GPU", None),
]


@pytest.mark.parametrize(("name", "price"), NAMES)
def test_the_default_of_a_model(name, price):
    found = price_of(name, Rates())
    assert (found.per_hour if found else None) == price
    if found:
        assert (found.currency, found.as_of) == ("USD", "2026-03")
        assert found.source


def test_the_configuration_wins_and_the_longest_name_counts():
    rates = Rates(prices={"h100": 2.0, "H100 PCIe": 1.5, "T4": 0.1}, source="our contract", as_of="2026-10")
    assert price_of("NVIDIA H100 PCIe", rates).per_hour == 1.5
    assert price_of("NVIDIA H100 80GB HBM3", rates).per_hour == 2.0
    assert price_of("Tesla T4", rates).source == "our contract"
    assert price_of("NVIDIA H200", rates).per_hour == 3.59


def test_defaults_are_in_dollars_and_can_be_left_out():
    assert price_of("NVIDIA H200", Rates(currency="EUR")) is None
    assert price_of("NVIDIA H200", Rates(defaults=False)) is None


def test_owned_hardware():
    own = Owned(capex=26_280, life_h=26_280, use=0.5, kw=1.0, opex=0.1)
    assert owned_per_hour(own, tariff=0.3, pue=1.2) == pytest.approx(2.46)
    found = price_of("NVIDIA H100 80GB HBM3", Rates(owned={"H100": own}, tariff=0.3, pue=1.2))
    assert found.micros == 2_460_000
    assert "26280" in found.source


def test_energy():
    assert energy_cost(3.6e6, Rates()) is None
    assert energy_cost(3.6e6, Rates(tariff=0.2, pue=1.5)) == pytest.approx(0.3)
