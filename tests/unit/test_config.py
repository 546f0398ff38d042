"""Settings: one value a section, which core takes as it is; what is refused names its key."""

import msgspec
import pytest

from leptond.base.errors import StartRefused
from leptond.config import Settings, parse
from leptond.core.accounting.prices import Owned, Rates
from leptond.core.admission.admission import Defaults
from leptond.core.retention_limits import RetentionLimits
from leptond.core.scheduling.fair_share import Caps, Fairness
from leptond.core.scheduling.inputs import PlannerFigures, Policy


def test_sections_are_values_of_core():
    settings = parse("", {})
    assert settings == Settings()
    assert settings.planner == PlannerFigures()
    assert settings.jobs == Defaults()
    assert settings.cost == Rates()
    assert settings.retention == RetentionLimits()
    assert settings.policy() == Policy()


def test_the_policy_holds_the_figures_the_caps_and_fair_share():
    policy = parse(
        "[queue]\npolicy = 'firstfit'\nmax_bypass_s = 60\n[planner]\npriority_step_s = 1\n"
        "[shares]\nhalf_life_s = 3600\nuser_max_gpus = 2\nproject_max_pending = 9",
        {},
    ).policy()
    assert (policy.name, policy.max_bypass_s, policy.priority_step_s) == ("firstfit", 60.0, 1.0)
    assert policy.fairness == Fairness(half_life_s=3600.0)
    assert policy.limits.users == Caps(max_gpus=2)
    assert policy.limits.projects == Caps(max_pending=9)
    assert msgspec.json.decode(msgspec.json.encode(policy), type=Policy) == policy, "as it is stored"


def test_a_stored_policy_of_another_version_is_read():
    assert msgspec.json.decode(b'{"name": "easy", "unheard_of": 1}', type=Policy) == Policy(name="easy")


def test_the_environment_overlays_the_file():
    settings = parse(
        "[jobs]\nretries = 1\n[cost.owned.H100]\ncapex = 1\nlife_h = 2\nuse = 0.5",
        {
            "LEPTOND_JOBS__RETRIES": "3",
            "LEPTOND_COST__PRICES": '{"T4": 0.1}',
            "LEPTOND_RETENTION__MAX_JOBS": "7",
        },
    )
    assert settings.jobs.retries == 3
    assert settings.retention == RetentionLimits(max_jobs=7)
    assert settings.cost == Rates(prices={"T4": 0.1}, owned={"H100": Owned(capex=1.0, life_h=2.0, use=0.5)})


@pytest.mark.parametrize("section", Settings.__struct_fields__)
def test_every_section_refuses_an_unknown_key(section):
    with pytest.raises(StartRefused, match=rf"unknown field `odd` - at `\$\.{section}`"):
        parse(f"[{section}]\nodd = 1", {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[planner]\noverdue_share = 1.5", r"Expected `float` <= 1.0 - at `\$\.planner\.overdue_share`"),
        ("[planner]\nunknown_run_s = 0", r"Expected `float` > 0.0 - at `\$\.planner\.unknown_run_s`"),
        ("[jobs]\ngrace_s = -1", r"Expected `float` >= 0.0 - at `\$\.jobs\.grace_s`"),
        ("[jobs]\nlog_max_bytes = 1", r"Expected `int` >= 65536 - at `\$\.jobs\.log_max_bytes`"),
        ("[shares]\nhalf_life_s = 1", r"Expected `float` >= 60.0 - at `\$\.shares\.half_life_s`"),
        ("[shares]\nuser_max_gpus = 'x'", r"Expected `int`, got `str` - at `\$\.shares\.user_max_gpus`"),
        ("[retention]\nmax_jobs = -1", r"Expected `int` >= 0 - at `\$\.retention\.max_jobs`"),
        ("[cost]\ncurrency = 'usd'", r"matching regex '\^\[A-Z\]\{3\}\\\\Z' - at `\$\.cost\.currency`"),
        ("[cost.owned.T4]\ncapex = 1\nlife_h = 1\nuse = 0", r"> 0.0 - at `\$\.cost\.owned\[...\]\.use`"),
        (
            "[cost.owned.T4]\nlife_h = 1\nuse = 1",
            r"required field `capex` - at `\$\.cost\.owned\[...\]`",
        ),
    ],
)
def test_a_bad_value_is_refused_by_the_bound_of_its_key(text, words):
    with pytest.raises(StartRefused, match=words) as raised:
        parse(text, {})
    assert raised.value.exit_code == 78


@pytest.mark.parametrize(
    ("text", "environ", "standby"),
    [
        ("[engine]\non_deck = 3", {}, 3),
        ("", {"LEPTOND_ENGINE__ON_DECK": "4"}, 4),
        ("[engine]\nstandby = 3", {"LEPTOND_ENGINE__ON_DECK": "4"}, 4),
        ("[engine]\non_deck = 3\nstandby = 5", {}, 5),
        ("[engine]\non_deck = 3", {"LEPTOND_ENGINE__ON_DECK": "4", "LEPTOND_ENGINE__STANDBY": "6"}, 6),
    ],
)
def test_a_former_key_still_configures_and_the_present_one_goes_before_it(text, environ, standby):
    assert parse(text, environ).engine.standby == standby


def test_a_section_that_is_no_table_is_refused_also_with_a_former_key():
    for environ in ({}, {"LEPTOND_ENGINE__ON_DECK": "4"}):
        with pytest.raises(StartRefused):
            parse("engine = 3", environ)
