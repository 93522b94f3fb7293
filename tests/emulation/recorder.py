"""A stand-in for CUDA graphs that replays by calling again."""


class Recorder:
    """Notes what is asked of it. As a CUDA graph, a recording reads the memory of its inputs when it is replayed.

    Args:
        broken: whether recording fails, as it does where something cannot be captured.
    """

    def __init__(self, broken=False):
        self.broken, self.calls = broken, []

    def warm_up(self, function, inputs):
        self.calls.append("warm up")
        return function(*inputs)

    def record(self, function, inputs):
        if self.broken:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.calls.append("record")

        def replay():
            self.calls.append("replay")
            return function(*inputs)

        return replay
