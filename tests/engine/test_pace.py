from engine.stand_ins import SAMPLING, engine_of, expected, prompt_of
from puna.engine.pace import Pace


def test_without_answers_under_way_a_step_reads_as_much_as_there_is_room_for():
    pace = Pace()
    pace.learn(512, 4.0)
    assert pace.room(0, 512) == 512


def test_beside_answers_a_step_reads_what_takes_a_tenth_of_a_second():
    pace = Pace()
    assert pace.room(3, 512) == 512  # nothing is known yet
    pace.learn(400, 0.2)
    assert pace.room(3, 512) == 200


def test_however_slow_a_model_is_prompts_go_on():
    pace = Pace()
    pace.learn(100, 50.0)
    assert pace.room(8, 512) == 40
    assert pace.room(8, 24) == 24


def test_steps_of_a_few_tokens_say_nothing_of_many():
    pace = Pace()
    pace.learn(400, 0.2)
    pace.learn(8, 0.1)
    assert pace.room(1, 512) == 200


def test_one_slow_step_among_others_counts_for_little():
    pace = Pace()
    for seconds in (0.2, 0.2, 0.2, 0.4):
        pace.learn(400, seconds)
    assert 160 <= pace.room(1, 512) < 200


def test_a_short_prompt_does_not_wait_until_long_ones_before_it_are_read():
    engine, runner = engine_of(context=1024, blocks=64, tokens=64)
    long = [engine.submit(prompt_of(400, seed=i), SAMPLING, limit=2) for i in range(2)]
    short = engine.submit(prompt_of(20, seed=9), SAMPLING, limit=1)
    while not short.ended:
        engine.step()
    assert len(runner.steps) <= 3
    while not all(sequence.ended for sequence in long):
        engine.step()
    for i, sequence in enumerate(long):
        assert [choice.token for choice in sequence.choices] == expected(prompt_of(400, seed=i), 2, SAMPLING)


def test_a_long_prompt_is_read_though_short_ones_keep_coming():
    engine, runner = engine_of(context=1024, blocks=64, tokens=64)
    long = engine.submit(prompt_of(400), SAMPLING, limit=1)
    for i in range(1, 100):
        engine.submit(prompt_of(60, seed=i), SAMPLING, limit=1)
        engine.step()
        if long.ended:
            break
    assert len(runner.steps) <= 15
