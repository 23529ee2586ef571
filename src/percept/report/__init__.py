"""Report: the results table (CSV, HTML, LaTeX), the figures, and one offline page that holds everything."""
