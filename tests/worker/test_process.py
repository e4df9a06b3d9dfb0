import threading

from puna.errors import RequestError
from puna.worker.process import Worker
from puna.worker.protocol import Job
from puna.worker.requests import Tokenize


class Model:
    """One whose tokens take as long as is wanted to come, and that says when its formats are made."""

    def __init__(self, wrong=False):
        self.tokenizer, self.vocab_size = self, 2
        self.let, self.made, self.wrong = threading.Event(), threading.Event(), wrong

    def step(self):
        raise AssertionError("there is no answer")

    def encode(self, text, special):
        self.let.wait()
        return [0]

    def prepare_formats(self):
        self.made.set()
        if self.wrong:
            raise RequestError("there is no end of an answer")


def test_what_formats_need_is_made_when_nothing_is_under_way():
    model, written = Model(), threading.Event()
    worker = Worker(model, lambda messages: written.set())
    worker.begin(Job(1, Tokenize(model="m", text="a")))
    making = threading.Thread(target=worker.prepare_formats, args=(0.02,))
    making.start()
    assert not model.made.wait(0.2)
    model.let.set()
    assert model.made.wait(10)
    assert written.is_set()
    making.join()


def test_a_model_that_can_have_no_format_is_none_the_worse_for_it():
    model = Model(wrong=True)
    Worker(model, lambda messages: None).prepare_formats(0.01)
    assert model.made.is_set()
