"""How good a prediction or a reconstruction is: metrics with intervals, limits, controls and an audit."""
