"""What any page of lrjax shares: one HTML file with everything inside, in light and in dark, for a phone and for a desk."""
