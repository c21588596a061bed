"""Tables, plots and the HTML page made from ``results.json`` files."""
