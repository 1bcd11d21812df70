"""The agents of [[ app_name ]]."""
