"""From an event log outside (a broker, another service) to the state, and training that goes on with it.

The embedded state takes its events straight from the service and keeps a log of its own (``palate.state.log``), so nothing lives here
yet. A source of events comes as one file: a class that reads the log from an offset and hands the events to ``State.append``, whose
``event_id`` makes every delivery count once.
"""
