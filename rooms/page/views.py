"""Renders the pages for people: the list of rooms, a room, signing in. The room page's script does the chatting."""

from __future__ import annotations

from django.contrib.auth import login, logout
from django.contrib.auth.forms import AuthenticationForm
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from rooms.access.guests import SESSION_KEY, GuestForm, person_of, welcome
from rooms.models import Room

# People read this list; more rooms than this would need a search.
MAX_LISTED_ROOMS = 200


@never_cache
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Show the list of rooms."""
    person = person_of(request)
    if person is None:
        return redirect_to_sign_in(request)
    return render(request, "home.html", {"person": person, "rooms": listed_rooms()})


@never_cache
@require_safe
def room(request: HttpRequest, name: str) -> HttpResponse:
    """Show a room; 404 for a room that is not listed."""
    person = person_of(request)
    if person is None:
        return redirect_to_sign_in(request)
    here = get_object_or_404(Room, name=name, listed=True)
    return render(request, "room.html", {"person": person, "room": here, "rooms": listed_rooms()})


@never_cache
@sensitive_post_parameters("password")
def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in by user name and password; GET shows the forms for users and guests."""
    form = AuthenticationForm(request, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        request.session.pop(SESSION_KEY, None)
        login(request, form.get_user())
        return redirect(next_page(request))
    return show_sign_in(request, user_form=form)


@never_cache
@require_POST
def enter_as_guest(request: HttpRequest) -> HttpResponse:
    """Enter as a guest, with a name for this session."""
    form = GuestForm(request.POST)
    if form.is_valid():
        if request.user.is_authenticated:
            logout(request)
        welcome(request, form.cleaned_data["name"])
        return redirect(next_page(request))
    return show_sign_in(request, guest_form=form)


@never_cache
@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """Sign the user or guest out."""
    logout(request)
    return redirect("page:sign-in")


def redirect_to_sign_in(request: HttpRequest) -> HttpResponse:
    """Redirect to the sign-in page, which leads back here."""
    return redirect(f"{reverse('page:sign-in')}?{urlencode({'next': request.get_full_path()})}")


def show_sign_in(
    request: HttpRequest, *, user_form: AuthenticationForm | None = None, guest_form: GuestForm | None = None
) -> HttpResponse:
    """Render both forms; status 422 for a refused form, with its errors."""
    forms = {"user_form": user_form or AuthenticationForm(request), "guest_form": guest_form or GuestForm()}
    refused = any(form.is_bound for form in forms.values())
    context = {**forms, "next": next_page(request), "person": person_of(request)}
    return render(request, "sign_in.html", context, status=422 if refused else 200)


def next_page(request: HttpRequest) -> str:
    """Return the address to go to after signing in: the requested page if it is ours, else the list of rooms."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if ours else reverse("page:home")


def listed_rooms() -> QuerySet[Room]:
    """Return the rooms that everybody may see, by name."""
    return Room.objects.filter(listed=True).order_by("name")[:MAX_LISTED_ROOMS]
