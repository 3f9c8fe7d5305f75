"""What plots and pages are made of: canvas, HTML, style sheet, numbers as text."""
